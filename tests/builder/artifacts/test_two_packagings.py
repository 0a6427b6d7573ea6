"""An image and an archive of one lock hold the same: path, kind and content, but for what becomes of prefixes."""

from __future__ import annotations

import ast
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conda_pack.prefixes import replace_prefix

from builder.artifacts.artifact import ARCHIVE, make_artifact
from builder.errors import BuilderError
from builder.packages.relocation import list_own_paths
from builder.service import BuilderService
from storage.blobs.layers import LayerStore
from storage.digest import Digest
from storage.oci import OCI_MANIFEST
from tests.support.builder.packages import PLACEHOLDER, Directory, Entry, File, Link, Package, pack, zip_parts
from tests.support.builder.services import make_channel, open_service, spec_of

PREFIX = "/opt/conda"
Tree = dict[str, tuple[str, Any]]
"""By path: the kind, and a pair of content or target and whether it can be executed, or None of a directory."""

PYTHON = Package(
    "python",
    "3.13.1",
    files={"bin/python3.13": File(b"\x7fELF" + PLACEHOLDER.encode() + b"\0", 0o755, "binary")},
    python_site_packages_path="lib/python3.13t/site-packages",
)
METADATA = json.dumps({"noarch": {"type": "python", "entry_points": ["later = odd:main"]}}).encode()
ODD = {
    "listed directories": [
        Package("odd", files={"var": Directory(), "var/empty": Directory(), "var/f": b"", "lib/x": b""})
    ],
    "an unlisted directory": [Package("odd", files={"var/empty": Directory(listed=False), "f": b""})],
    "entry points that package_metadata.json alone names": [
        PYTHON,
        Package(
            "odd", noarch="python", depends=["python"], info={"link.json": None, "package_metadata.json": METADATA}
        ),
    ],
    "entry points that a file has the name of": [
        PYTHON,
        Package(
            "odd",
            noarch="python",
            depends=["python"],
            files={"python-scripts/tool": b"old"},
            entry_points=["tool = odd:main", "two-b = odd:a.b"],
        ),
    ],
    "noarch files": [
        PYTHON,
        Package(
            "odd",
            noarch="python",
            depends=["python"],
            files={
                "site-packages/odd/a.py": b"a",
                "site-packages/odd/p": File(f"{PLACEHOLDER}/x".encode(), placeholder="text"),
                "python-scripts/run": File(f"#!{PLACEHOLDER}/bin/python\n".encode(), 0o755, "text"),
                "share/site-packages/b": b"b",
            },
        ),
    ],
    "two files of one path": [
        Package("odd", files={"f": b"1", "g": File(PLACEHOLDER.encode(), placeholder="text")}),
        Package("other", depends=["odd"], files={"f": b"2", "g": b"2"}),
    ],
    "hard links": [
        Package(
            "odd",
            files={
                "a": b"a",
                "b": Link("a", hard=True),
                "p": File(f"at {PLACEHOLDER}".encode(), placeholder="text"),
                "q": Link("p", hard=True, placeholder="text"),
                "r": Link("p", hard=True),
                "hidden": File(b"h", listed=False),
                "s": Link("hidden", hard=True),
                "late": Link("z", hard=True),
                "z": b"z",
                "l": Link("a"),
                "m": Link("l", hard=True),
            },
        )
    ],
    "links": [
        Package("odd", files={"a": Link("/etc/passwd"), "b": Link("../" * 9), "c": Link("b", placeholder="text")})
    ],
    "binaries": [
        Package(
            "odd",
            files={
                "bin/b": File(b"\x7f" + f"{PLACEHOLDER}:{PLACEHOLDER}/x".encode() + b"\0y\0", 0o755, "binary"),
                "lib/big": File(b"x" * 300_000 + PLACEHOLDER.encode() + b"\0", placeholder="binary"),
                "lib/text": File(b"x" * 300_000 + PLACEHOLDER.encode(), placeholder="text"),
                "bin/script": File(f"#!{PLACEHOLDER}/bin/x\n{PLACEHOLDER}".encode(), 0o755, "text"),
            },
        )
    ],
    "names": [Package("odd", files={"a b": b"", "é/ü": b"", "n" * 200: b"", "d/" * 60 + "x": b"", "'\"\\": b""})],
    "a package of before paths.json": [
        Package(
            "odd",
            files={"bin/a": File(b"#!/some where/x", 0o755), "lib/b c": b"/else\0", "l": Link("bin/a")},
            info={
                "paths.json": None,
                "files": b"bin/a\nlib/b c\nl\n",
                "has_prefix": b'"/some where" text bin/a\n/else/where/that/is/long binary "lib/b c"\n',
            },
        )
    ],
    "nothing": [Package("odd")],
}


async def both(service: BuilderService, *specs: str) -> tuple[Tree, Tree]:
    spec = spec_of(service, *specs)
    lock = await service.lock(spec)
    blobs = service.builder.blobs
    image = await service.build(spec)
    (descriptor,) = [variant for variant in image.variants if variant.media_type == OCI_MANIFEST]
    manifest = await service.builder.catalog.images.find_manifest(descriptor.digest)
    assert manifest
    layers = [await blobs.content(Digest.parse(each["digest"])) for each in json.loads(manifest.body)["layers"]]
    async with service.builder._take_turn_to_pack(lock, ARCHIVE) as pack:
        archive = await make_artifact(ARCHIVE, lock, blobs=blobs, layers=LayerStore(blobs), pack=pack)
    return tree(layers, f"{PREFIX[1:]}/"), relocated(tree([await blobs.content(archive.digest)], ""))


def tree(tars: Iterable[bytes], root: str) -> Tree:
    """By path: kind and content, mode class with it; hard links are files."""
    found: Tree = {}
    for content in tars:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            for member in tar:
                path = member.name.removeprefix(root)
                file = None if member.issym() or member.isdir() else tar.extractfile(member)
                if member.isdir():
                    found[path] = ("directory", None)
                else:
                    content_or_link = file.read() if file else member.linkname
                    found[path] = ("file" if file else "link", (content_or_link, bool(member.mode & 0o111)))
    return found


def relocated(archive: Tree) -> Tree:
    """What conda-unpack makes of an archive that is unpacked at the image's prefix."""
    (script, _) = archive["bin/conda-unpack"][1]
    rows = ast.literal_eval("[" + script.decode().partition("_prefix_records = [")[2].partition("\n]\n")[0] + "]")
    for path, placeholder, mode in rows:
        kind, (content, executable) = archive[path]
        assert kind == "file"
        archive[path] = kind, (replace_prefix(content, mode, placeholder, PREFIX), executable)
    return archive


def without_own(found: Tree) -> Tree:
    own = {"bin", "conda-meta", ".condery", "", "opt", "opt/conda", *list_own_paths()}
    return {
        path: by_env(path, entry)
        for path, entry in found.items()
        if path not in own and not path.startswith(("conda-meta/", ".condery/"))
    }


def by_env(path: str, entry: tuple[str, Any]) -> tuple[str, Any]:
    """A script whose first line alone has the prefix, as conda-pack writes it; bin/python* is in no table."""
    kind, value = entry
    if kind != "file" or not path.startswith("bin/"):
        return entry
    content, executable = value
    first, newline, rest = content.partition(b"\n")
    if path.startswith("bin/python"):
        content = content.replace(PLACEHOLDER.encode() + b"\0", PREFIX.encode().ljust(len(PLACEHOLDER), b"\0") + b"\0")
    elif first.startswith(f"#!{PREFIX}/bin/".encode()) and content.count(PREFIX.encode()) == 1:
        content = b"#!/usr/bin/env " + first.rpartition(b"/")[2] + newline + rest
    return kind, (content, executable)


@pytest.mark.parametrize("name", ODD)
async def test_image_and_archive_hold_the_same(tmp_path: Path, name: str) -> None:
    packages = ODD[name]
    channel = await make_channel(tmp_path / "channel", packages)
    async with open_service(tmp_path / "data", channel) as service:
        image, archive = await both(service, *(package.name for package in packages))
    assert without_own(image) == without_own(archive)
    if name == "listed directories":
        assert archive["var/empty"] == ("directory", None)
    if name == "entry points that package_metadata.json alone names":
        assert "bin/later" in archive


REFUSED = {
    "a path that is missing": [Package("odd", info={"paths.json": b'{"paths_version":1,"paths":[{"_path":"x"}]}'})],
    "a directory where a file is": [Package("odd", files={"a": b""}), Package("other", files={"a/b": b""})],
    "noarch python without one": [Package("odd", noarch="python", files={"site-packages/x": b""})],
    "condery's folder": [Package("odd", files={".condery/x": b""})],
}


@pytest.mark.parametrize("name", REFUSED)
async def test_image_and_archive_are_refused_for_the_same_reason(tmp_path: Path, name: str) -> None:
    packages = REFUSED[name]
    channel = await make_channel(tmp_path / "channel", packages)
    async with open_service(tmp_path / "data", channel) as service:
        spec = spec_of(service, *(package.name for package in packages))
        lock = await service.lock(spec)
        with pytest.raises(BuilderError) as image:
            await service.build(spec)
        with pytest.raises(BuilderError) as archive:
            await service.builder.artifact(lock, ARCHIVE)
    assert (type(image.value), str(image.value)) == (type(archive.value), str(archive.value))


async def test_payload_in_the_info_tar(tmp_path: Path) -> None:
    """As in Anaconda's ncurses 6.2: conda and rattler unpack both tars into one folder."""
    import zstandard

    files: dict[str, Entry] = {
        "share/terminfo/x": b"x",
        "lib/terminfo": Link("../share/terminfo"),
        "lib/late": b"in info",
    }
    package = Package("ncurses", files=files)
    inside: Sequence[str] = ("lib/terminfo", "lib/late")
    payload = {path: entry for path, entry in files.items() if path not in inside}
    info: dict[str, Entry] = {name: File(content) for name, content in package.info_files().items()}
    parts = {
        "metadata.json": b'{"conda_pkg_format_version": 2}',
        "pkg-ncurses.tar.zst": zstandard.compress(pack(payload)),
        "info-ncurses.tar.zst": zstandard.compress(pack({**info, **{path: files[path] for path in inside}})),
    }
    channel = await make_channel(tmp_path / "channel", [replace(package, name="other")])
    package.made(tmp_path / "channel", f"{package.stem}.conda", zip_parts(parts))
    channel = await make_channel(tmp_path / "channel", [])
    async with open_service(tmp_path / "data", channel) as service:
        image, archive = await both(service, "ncurses")
    assert without_own(image) == without_own(archive)
    assert archive["lib/terminfo"] == ("link", ("../share/terminfo", True))
    assert archive["lib/late"] == ("file", (b"in info", False))
