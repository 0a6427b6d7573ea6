"""A base layer made of files from the machine that condery runs on. Nothing is downloaded or executed.

The libraries that `ldd` lists are not enough: numpy built elsewhere needs libpthread.so.0, name look-ups open
libnss_*.so, and a thread that exits opens libgcc_s.so. So the C library's whole family is copied.
"""

from __future__ import annotations

import asyncio
import io
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builder.base.layers import LayerWriter, are_stored
from builder.base.vocabulary import BaseImage, BaseLayer
from builder.elf import ElfFile, read_elf
from builder.errors import BaseUnavailable
from builder.platforms import host_platform
from storage.blobs.blocking import BlockingBlobs


@dataclass(frozen=True)
class _Abi:
    """Where a platform's programs expect their loader, and Debian's name for its library directories."""

    loader: str
    triplet: str


_ABIS = {
    "linux-32": _Abi("/lib/ld-linux.so.2", "i386-linux-gnu"),
    "linux-64": _Abi("/lib64/ld-linux-x86-64.so.2", "x86_64-linux-gnu"),
    "linux-aarch64": _Abi("/lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu"),
    "linux-armv6l": _Abi("/lib/ld-linux-armhf.so.3", "arm-linux-gnueabihf"),
    "linux-armv7l": _Abi("/lib/ld-linux-armhf.so.3", "arm-linux-gnueabihf"),
    "linux-loong64": _Abi("/lib64/ld-linux-loongarch-lp64d.so.1", "loongarch64-linux-gnu"),
    "linux-ppc64": _Abi("/lib64/ld64.so.1", "powerpc64-linux-gnu"),
    "linux-ppc64le": _Abi("/lib64/ld64.so.2", "powerpc64le-linux-gnu"),
    "linux-riscv64": _Abi("/lib/ld-linux-riscv64-lp64d.so.1", "riscv64-linux-gnu"),
    "linux-s390x": _Abi("/lib/ld64.so.1", "s390x-linux-gnu"),
}

_LIBRARIES = (
    "libBrokenLocale.so.1",
    "libanl.so.1",
    "libc.so.6",
    "libcrypt.so.1",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libmvec.so.1",
    "libnsl.so.1",
    "libnss_compat.so.2",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libthread_db.so.1",
    "libutil.so.1",
)

_CHARACTER_SETS = ("ISO8859-1.so", "ISO8859-15.so", "UNICODE.so", "UTF-16.so", "UTF-32.so", "UTF-7.so", "gconv-modules")

_TOOLS = (
    *(
        "sh",
        "bash",
        "awk",
        "basename",
        "cat",
        "chmod",
        "chown",
        "cp",
        "cut",
        "date",
        "dd",
        "df",
        "dirname",
        "du",
        "echo",
        "env",
    ),
    *("expr", "false", "find", "grep", "gzip", "head", "hostname", "id", "kill", "ln", "ls", "mkdir", "mktemp", "mv"),
    *("nproc", "od", "printenv", "printf", "pwd", "readlink", "realpath", "rm", "rmdir", "sed", "seq", "sha256sum"),
    *("sleep", "sort", "stat", "stty", "sync", "tail", "tar", "tee", "test", "timeout", "touch", "tr", "true", "tty"),
    *("uname", "uniq", "wc", "which", "whoami", "xargs"),
)

_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # SUSE
)

_FILES = {
    "/etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "conda:x:1000:1000:conda:/home/conda:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    ),
    "/etc/group": "root:x:0:\nconda:x:1000:\nnogroup:x:65534:\n",
    # The host's own file may name modules that are not copied.
    "/etc/nsswitch.conf": (
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n"
        "protocols: files\nservices: files\n"
    ),
}

_DIRECTORIES = {
    "/dev": 0o755,
    "/home/conda": 0o700,
    "/proc": 0o555,
    "/root": 0o700,
    "/run": 0o755,
    "/sys": 0o555,
    "/tmp": 0o1777,  # noqa: S108 - a directory of the image
    "/var/tmp": 0o1777,  # noqa: S108 - a directory of the image
}

_OWNERS = {"/home/conda": 1000}


class HostBase:
    """A Base from this machine, for its own platform. The same system packages give the same layer."""

    reference = "host"

    def __init__(self, blobs: BlockingBlobs, root: Path = Path("/")) -> None:
        self._blobs = blobs
        self._root = root
        self._image: BaseImage | None = None
        self._making = asyncio.Lock()

    async def resolve(self, platform: str) -> BaseImage:
        own = host_platform()
        if platform != own:
            raise BaseUnavailable(
                self.reference, f"its platform is {own}, not {platform}; set a base image that has {platform}"
            )
        async with self._making:
            return await asyncio.to_thread(self._resolve, platform)

    def _resolve(self, platform: str) -> BaseImage:
        if self._image is None or not are_stored(self._image.layers, self._blobs):
            self._image = self._make(platform)
        return self._image

    def _make(self, platform: str) -> BaseImage:
        tree = HostTree(self._root, platform)
        tree.collect()
        buffer = io.BytesIO()
        layer = tree.write(buffer)
        self._blobs.put(layer.descriptor.digest, [buffer.getvalue()])
        return BaseImage(
            reference=self.reference,
            digest=layer.descriptor.digest,
            platform=platform,
            layers=(layer,),
            glibc=_find_glibc_version(),
            has_shell=tree.has("/bin/sh"),
            bash="/bin/bash" if tree.has("/bin/bash") else None,
            links=tree.list_links(),
        )


def _find_glibc_version() -> str:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        name = version = ""
    if name != "glibc":
        raise BaseUnavailable(
            HostBase.reference,
            "this machine's C library is not glibc, which conda packages need; set a base image that has glibc, "
            "such as docker.io/library/debian:stable-slim",
        )
    return version


class HostTree:
    """The files chosen from below `root`, each under the same path as there.

    A path is taken with the symbolic links on its way. So a machine whose /bin is a link to /usr/bin gives an image
    with that link, and a machine where /bin is a directory gives a directory.
    """

    def __init__(self, root: Path, platform: str) -> None:
        self._root = root
        self._abi = _ABIS[platform]
        self._members: dict[str, tarfile.TarInfo] = {}
        self._contents: dict[str, Path | bytes] = {}
        self._library_directories = [
            f"{top}/{name}" for name in (self._abi.triplet, "") for top in ("/lib", "/usr/lib")
        ] + ["/lib64", "/usr/lib64"]

    def has(self, path: str) -> bool:
        """Whether `path` was taken, as itself or through links."""
        found = self._walk(path, take=False)
        return found is not None and found in self._members

    def list_links(self) -> tuple[str, ...]:
        """List the symbolic links that were taken, sorted."""
        return tuple(sorted(path for path, member in self._members.items() if member.issym()))

    def collect(self) -> None:
        """Choose all files. Raises BaseUnavailable if this machine cannot be a base."""
        _find_glibc_version()
        loader = self.take(self._abi.loader)
        elf = read_elf(self._locate(loader)) if loader else None
        if elf is None:
            raise BaseUnavailable(
                HostBase.reference,
                f"this machine has no dynamic loader {self._abi.loader}, where conda packages look for it; "
                "set a base image, such as docker.io/library/debian:stable-slim",
            )
        self._take_libraries(elf)
        for name in _TOOLS:
            self._take_tool(name, elf)
        for path in (*_CERTIFICATES, "/etc/os-release"):
            self.take(path)
        self._take_locale()
        self._add_fixed()

    def take(self, path: str) -> str | None:
        """Take the readable file at `path` and the links to it.

        Returns its real path, or None if there is no such file.
        """
        real = self._walk(path, take=False)
        if real is None or real in self._contents:
            return self._walk(path, take=True) if real else None
        host = self._locate(real)
        if not stat.S_ISREG(host.stat().st_mode) or not os.access(host, os.R_OK):
            return None
        self._walk(path, take=True)
        # An image has no use for write permissions of others or for set-user-id bits.
        mode = 0o755 if host.stat().st_mode & 0o111 else 0o644
        self._add(real, tarfile.REGTYPE, mode, content=host)
        return real

    def write(self, file: io.BytesIO) -> BaseLayer:
        """Write the layer to `file`: sorted, without times, and owned by root except for a home."""
        writer = LayerWriter(file)
        with tarfile.open(fileobj=writer, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(self._members):
                self._write_member(tar, path)
        return writer.finish()

    def _write_member(self, tar: tarfile.TarFile, path: str) -> None:
        member = self._members[path]
        content = self._contents.get(path)
        if content is None:
            tar.addfile(member)
            return
        data = content.read_bytes() if isinstance(content, Path) else content
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))

    def _take_libraries(self, loader: ElfFile) -> None:
        directory = next(self._find_library("libc.so.6", loader, ()), None)
        if directory is None:
            raise BaseUnavailable(HostBase.reference, f"no libc.so.6 in {', '.join(self._library_directories)}")
        parent = str(PurePosixPath(directory).parent)
        for name in _LIBRARIES:
            for path in self._find_library(name, loader, ()):
                self._take_with_needed(path, loader)
                break
        for name in _CHARACTER_SETS:
            self.take(f"{parent}/gconv/{name}")

    def _take_tool(self, name: str, loader: ElfFile) -> None:
        for directory in ("/bin", "/usr/bin"):
            if self._walk(f"{directory}/{name}", take=False):
                self._take_with_needed(f"{directory}/{name}", loader)

    def _take_with_needed(self, path: str, loader: ElfFile) -> None:
        """Take a file and all the libraries that it needs, or nothing if one of them is missing."""
        for each in self._find_closure(path, loader) or ():
            self.take(each)

    def _find_closure(self, path: str, loader: ElfFile) -> list[str] | None:
        seen: dict[str, str] = {}
        pending = [("", path)]
        while pending:
            name, current = pending.pop()
            if name in seen:
                continue
            seen[name] = current
            real = self._walk(current, take=False)
            elf = read_elf(self._locate(real)) if real and os.access(self._locate(real), os.R_OK) else None
            if elf is None:
                # A tool may be a script and is then taken as it is; a library must be an ELF file.
                return None if name or real is None else [current]
            if elf.kind != loader.kind:
                return None
            origin = str(PurePosixPath(real or current).parent)
            for needed in elf.needed:
                run_paths = [part.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", origin) for part in elf.search]
                found = next(self._find_library(needed, loader, run_paths), None)
                if found is None:
                    return None
                pending.append((needed, found))
        return list(seen.values())

    def _find_library(self, name: str, loader: ElfFile, run_paths: Iterable[str]) -> Iterator[str]:
        """Find a library where the loader looks by default. Its cache of further directories is not copied."""
        for directory in (*run_paths, *self._library_directories):
            path = f"{directory.rstrip('/')}/{name}"
            real = self._walk(path, take=False)
            if real is None or not self._locate(real).is_file():
                continue
            elf = read_elf(self._locate(real))
            if elf is not None and elf.kind == loader.kind:
                yield path

    def _take_locale(self) -> None:
        """Take C.UTF-8. It is not built into glibc but a directory of files, under either of two names."""
        for name in ("C.utf8", "C.UTF-8"):
            top = self._root / "usr/lib/locale" / name
            for directory, _, names in os.walk(top):
                for file in names:
                    self.take("/" + str((Path(directory) / file).relative_to(self._root)))

    def _add_fixed(self) -> None:
        for path, text in _FILES.items():
            self._add(path, tarfile.REGTYPE, 0o644, content=text.encode())
        for path, mode in _DIRECTORIES.items():
            self._add(path, tarfile.DIRTYPE, mode, owner=_OWNERS.get(path, 0))

    def _walk(self, path: str, *, take: bool) -> str | None:
        """Resolve `path`, following links within `root`. With `take`, take the links and directories on the way."""
        pending = [part for part in path.split("/") if part not in ("", ".")][::-1]
        current = ""
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                current = current.rpartition("/")[0]
                continue
            here = f"{current}/{part}"
            try:
                mode = self._locate(here).lstat().st_mode
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                return None
            if stat.S_ISLNK(mode):
                links += 1
                if links > 40:
                    return None
                target = os.readlink(self._locate(here))
                if take:
                    self._add(here, tarfile.SYMTYPE, 0o777, target=target)
                if target.startswith("/"):
                    current = ""
                pending.extend([step for step in target.split("/") if step not in ("", ".")][::-1])
                continue
            if stat.S_ISDIR(mode) and take:
                self._add(here, tarfile.DIRTYPE, 0o755)
            current = here
        return current

    def _locate(self, path: str) -> Path:
        return self._root / path.lstrip("/")

    def _add(
        self,
        path: str,
        kind: bytes,
        mode: int,
        *,
        target: str = "",
        owner: int = 0,
        content: Path | bytes | None = None,
    ) -> None:
        for parent in PurePosixPath(path).parents:
            if str(parent) != "/" and str(parent) not in self._members:
                self._add(str(parent), tarfile.DIRTYPE, 0o755)
        member = tarfile.TarInfo(path.lstrip("/") + ("/" if kind == tarfile.DIRTYPE else ""))
        member.type, member.mode, member.linkname, member.uid, member.gid = kind, mode, target, owner, owner
        self._members[path] = member
        if content is not None:
            self._contents[path] = content
