"""This machine as a base, and its base made into a container."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from builder.base.host import HostBase
from builder.base.vocabulary import BaseImage
from builder.elf import read_elf
from builder.errors import BaseUnavailable
from builder.platforms import oci_platform
from builder.publish import StoredImage, write_docker_archive
from tests.builder.base.support import OTHER, OWN, Data, OpenData, check, files_of, need_docker, opened, run
from tests.support.builder.images import OCI, Images
from tests.support.unpacking import extract_all


class TestElf:
    def test_what_the_interpreter_needs(self) -> None:
        elf = read_elf(Path(sys.executable).resolve())
        assert elf is not None
        assert elf.interpreter is not None
        assert Path(elf.interpreter).exists()
        assert any(name.startswith("libc.so") for name in elf.needed)

    @pytest.mark.parametrize("cut", [0, 3, 40, 64, 100, 1000])
    def test_what_is_cut_short_is_none_or_right(self, tmp_path: Path, cut: int) -> None:
        (tmp_path / "cut").write_bytes(Path(sys.executable).read_bytes()[:cut])
        assert read_elf(tmp_path / "cut") is None


class TestHost:
    async def test_the_same_bytes_each_time(self, open_data: OpenData) -> None:
        directories = [open_data(name) for name in ("a", "b")]
        made = [await opened("host", each).resolve(OWN) for each in directories]
        assert made[0] == made[1]
        check(made[0], directories[0])
        assert made[0].has_shell
        assert made[0].glibc == os.confstr("CS_GNU_LIBC_VERSION").split()[1]  # type: ignore[union-attr]  # glibc here
        assert made[0].layers[0].descriptor.size < 12 << 20

    async def test_a_lost_blob_is_made_again(self, data: Data) -> None:
        base = opened("host", data)
        image = await base.resolve(OWN)
        data.blobs.lose(image.layers[0].descriptor.digest)
        assert await base.resolve(OWN) == image
        check(image, data)

    async def test_only_its_own_platform(self, data: Data) -> None:
        with pytest.raises(BaseUnavailable, match=f"{OWN}, not {OTHER}"):
            await opened("host", data).resolve(OTHER)

    async def test_every_library_comes_along(self, data: Data, tmp_path: Path) -> None:
        root = await unpacked_host(data, tmp_path)
        present = {path.name for path in root.rglob("*.so*")}
        assert {"libpthread.so.0", "libdl.so.2", "librt.so.1", "libm.so.6", "libresolv.so.2"} <= present
        assert any(name.startswith("libnss_dns") for name in present)
        found = [
            elf for path in root.rglob("*") if path.is_file() and not path.is_symlink() and (elf := read_elf(path))
        ]
        assert len(found) > 20
        assert {name for elf in found for name in elf.needed} <= present

    async def test_no_path_twice_and_parents_first(self, data: Data) -> None:
        image = await opened("host", data).resolve(OWN)
        blob = b"".join(data.blobs.read(image.layers[0].descriptor.digest))
        seen: set[str] = set()
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                assert str(path) not in seen
                assert str(path.parent) == "." or str(path.parent) in seen
                assert member.mtime == 0
                assert (member.uid, member.gid) == ((1000, 1000) if member.name == "home/conda" else (0, 0))
                seen.add(str(path))

    async def test_a_machine_whose_bin_is_a_directory(self, data: Data, tmp_path: Path) -> None:
        """As Debian was before usrmerge: /bin and /lib are directories beside /usr/bin and /usr/lib."""
        merged = await unpacked_host(data, tmp_path)
        old = tmp_path / "old"
        for name in ("bin", "lib", "lib64"):
            shutil.copytree(merged / name, old / name, symlinks=True)
        (old / "usr/bin").mkdir(parents=True)
        shutil.move(old / "bin/env", old / "usr/bin/env")
        image = await HostBase(data.blobs, old).resolve(OWN)
        names = files_of(image, data)
        assert {"bin/sh", "bin/ls", "usr/bin/env"} <= names
        assert "usr/bin/ls" not in names
        assert image.has_shell

    async def test_a_machine_without_a_loader(self, data: Data, tmp_path: Path) -> None:
        with pytest.raises(BaseUnavailable, match=r"no dynamic loader.*debian"):
            await HostBase(data.blobs, tmp_path).resolve(OWN)

    async def test_it_runs_in_a_chroot(self, data: Data, tmp_path: Path) -> None:
        chroot = chroot_or_skip()
        root = await unpacked_host(data, tmp_path)
        script = "ls / && touch /tmp/by-$(id -u) && id -un"
        for user, name in ((0, "root"), (1000, "conda")):
            done = subprocess.run(
                [chroot, f"--userspec={user}:{user}", str(root), "/bin/sh", "-c", script],
                capture_output=True,
                text=True,
                env={"PATH": "/usr/bin:/bin"},
            )
            assert done.returncode == 0, done.stderr
            assert name in done.stdout.splitlines()

    async def test_every_tool_starts_in_a_chroot(self, data: Data, tmp_path: Path) -> None:
        chroot = chroot_or_skip()
        root = await unpacked_host(data, tmp_path)
        (root / "dev/null").touch()
        # 127 is the shell's, and the loader's, for what cannot be started
        script = (
            'for tool in /usr/bin/*; do "$tool" --help </dev/null >/dev/null 2>&1; [ $? = 127 ] && echo $tool; done; :'
        )
        done = subprocess.run(
            [chroot, str(root), "/bin/sh", "-c", script],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin"},
        )
        assert (done.stdout, done.stderr) == ("", "")

    @pytest.mark.clients
    async def test_it_runs_in_docker(self, data: Data, tmp_path: Path) -> None:
        need_docker()
        image = await opened("host", data).resolve(OWN)
        name = f"condery-test/{tmp_path.name}:host"
        write_docker_archive(tmp_path / "host.tar", as_image(image, data), name=name)
        run("docker", "load", "-q", "-i", str(tmp_path / "host.tar"))
        try:
            docker = ("docker", "run", "--rm", "--network", "none")
            assert "etc" in run(*docker, name, "sh", "-c", "ls /").split()
            assert run(*docker, "--user", "1000", name, "sh", "-c", "id -un; touch ~/x /tmp/x; ls ~").split() == [
                "conda",
                "x",
            ]
            assert "usr" in run(*docker, "--read-only", "--user", "1000", name, "sh", "-c", "ls /").split()
            assert run(*docker, "-e", "LANG=C.UTF-8", name, "sh", "-c", "printf Ä | wc -m").strip() == "1"
        finally:
            run("docker", "image", "rm", name)


async def unpacked_host(data: Data, tmp_path: Path) -> Path:
    image = await opened("host", data).resolve(OWN)
    blob = b"".join(data.blobs.read(image.layers[0].descriptor.digest))
    root = tmp_path / "root"
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as tar:
        # links of a root file system are absolute, which safer filters refuse
        extract_all(tar, root, numeric_owner=True)
    return root


def as_image(base: BaseImage, data: Data) -> StoredImage:
    """An image of nothing but the base."""
    images = Images(data.blobs)
    config = {
        **oci_platform(base.platform),
        "config": {"Env": ["PATH=/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in base.layers]},
    }
    manifest = {
        "config": images.blob(OCI + "config.v1+json", json.dumps(config).encode()).to_json(),
        "layers": [layer.descriptor.to_json() for layer in base.layers],
    }
    return images.stored(images.document(OCI + "manifest.v1+json", manifest))


def chroot_or_skip() -> str:
    program = shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None or os.geteuid() != 0:
        pytest.skip("chroot needs root")
    return program
