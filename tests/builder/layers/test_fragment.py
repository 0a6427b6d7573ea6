"""From archive to tar members: as conda and rattler would put them on disk, and nothing from a hostile archive."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from isal import isal_zlib

from builder.archives.archive import ArchiveLimits
from builder.archives.tar import EARLIEST, END
from builder.errors import PackageRefused
from builder.layers import fragment as fragment_module
from builder.layers.fragment import FragmentInfo, FragmentRecipe, read_info, read_paths
from builder.layers.transcoding import transcode
from builder.packages.contents import PackageContents, PythonLayout
from builder.packages.inspection import inspect
from storage.errors import StorageFull
from tests.support.builder.packages import (
    PLACEHOLDER,
    PYTHON,
    TIME,
    Directory,
    Entry,
    File,
    Link,
    Made,
    Package,
    install,
    installed_paths,
    pack,
    zip_parts,
)

PREFIX = "/opt/conda"
OLD = PLACEHOLDER.encode()


class Fragment:
    """A fragment that was made, and read back by tarfile."""

    def __init__(self, made: Made, python: PythonLayout | None = None, prefix: str = PREFIX, **recipe: Any) -> None:
        root = made.path.parent.parent
        self.contents: PackageContents = inspect(made.path, made.record, python, root / "contents")
        self.recipe = FragmentRecipe.of(made.record.archive_key, self.contents, prefix, **recipe)
        self.path = root / "fragments" / self.recipe.key[:2] / self.recipe.key
        compressed, uncompressed = hashlib.sha256(), hashlib.sha256()
        self.info = transcode(
            self.recipe, self.contents, made.path, self.path, compressed, uncompressed, ArchiveLimits()
        )
        self.bytes = self.path.read_bytes()
        data = isal_zlib.decompress(self.bytes, wbits=31)
        assert compressed.hexdigest() == hashlib.sha256(self.bytes).hexdigest()
        assert uncompressed.hexdigest() == hashlib.sha256(data).hexdigest()
        assert (self.info.size, self.info.uncompressed_size) == (len(self.bytes), len(data))
        with tarfile.open(fileobj=io.BytesIO(data + END)) as archive:
            self.members = {member.name: member for member in archive}
            assert len(self.members) == len(archive.getmembers())
            self.content = {
                name: archive.extractfile(member).read()  # type: ignore[union-attr]  # a file has one
                for name, member in self.members.items()
                if member.isreg()
            }

    @property
    def written(self) -> dict[str, tuple[str, int]]:
        """By path, the hash and size in the image of what the prefix record has them of."""
        entries = json.loads(b"".join(read_paths(self.path).pieces()))["paths_data"]["paths"]
        return {
            entry["_path"]: (entry["sha256_in_prefix"], entry["size_in_bytes"])
            for entry in entries
            if "sha256_in_prefix" in entry
        }

    def __getitem__(self, target: str) -> tarfile.TarInfo:
        return self.members[f"opt/conda/{target}"]


def conda(files: Mapping[str, Entry], folder: Path, **package: Any) -> Made:
    return Package(files=files, **package).conda(folder)


def test_members_are_under_the_prefix_in_the_order_of_the_archive_without_directories(tmp_path: Path) -> None:
    made = conda({"z/b": b"1", "z": Directory(listed=False), "a/c": b"2", "e": Directory()}, tmp_path)
    fragment = Fragment(made)
    assert list(fragment.members) == ["opt/conda/z/b", "opt/conda/a/c"]
    assert list(fragment.contents.directories) == ["a", "e", "z"]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0o600, 0o644), (0o664, 0o644), (0o700, 0o755), (0o001, 0o755), (0o6755, 0o755), (0o1644, 0o644)],
)
def test_owners_and_modes(tmp_path: Path, mode: int, expected: int) -> None:
    member = Fragment(conda({"f": File(b"x", mode)}, tmp_path))["f"]
    assert (member.mode, member.uid, member.gid, member.uname, member.gname) == (expected, 0, 0, "", "")


@pytest.mark.parametrize(("mtime", "expected"), [(TIME, TIME), (0, EARLIEST), (-5, EARLIEST)])
def test_times_are_kept_from_1980(tmp_path: Path, mtime: int, expected: int) -> None:
    assert Fragment(conda({"f": File(b"x", mtime=mtime)}, tmp_path))["f"].mtime == expected


def test_only_what_is_listed_is_installed(tmp_path: Path) -> None:
    fragment = Fragment(conda({"f": b"x", "g": File(b"", listed=False), "info/h": b""}, tmp_path))
    assert list(fragment.members) == ["opt/conda/f"]


def test_what_is_listed_and_missing_is_refused(tmp_path: Path) -> None:
    index = Package(files={"f": b"", "gone": b""}).info_files()["info/paths.json"]
    with pytest.raises(PackageRefused, match="lists gone, which its archive does not have"):
        Fragment(conda({"f": b""}, tmp_path, info={"paths.json": index}))


def test_symlinks_are_verbatim(tmp_path: Path) -> None:
    fragment = Fragment(conda({"l": Link("../out/é", placeholder="text"), "m": Link("x" * 150)}, tmp_path))
    assert [(fragment[name].issym(), fragment[name].linkname) for name in "lm"] == [
        (True, "../out/é"),
        (True, "x" * 150),
    ]


def test_hard_links_stay_where_their_target_stays(tmp_path: Path) -> None:
    files: dict[str, Entry] = {
        "a": b"plain",
        "b": Link("a", hard=True),
        "p": File(b"at " + OLD, placeholder="text"),
        "q": Link("p", hard=True, placeholder="text"),
        "r": Link("p", hard=True),
        "gone": b"excluded",
        "s": Link("gone", hard=True),
        "unlisted": File(b"hidden", listed=False),
        "t": Link("unlisted", hard=True),
        "l": Link("a"),
        "u": Link("l", hard=True),
        "late": Link("x/last", hard=True),
        "x/last": b"the end",
    }
    fragment = Fragment(conda(files, tmp_path), excluded=("gone",))
    assert (fragment["b"].islnk(), fragment["b"].linkname) == (True, "opt/conda/a")
    assert fragment["u"].issym()
    assert fragment["u"].linkname == "a"
    copies = {name: fragment.content[f"opt/conda/{name}"] for name in ("p", "q", "r", "s", "t", "late")}
    new = PREFIX.encode()
    assert copies == {
        "p": b"at " + new,
        "q": b"at " + new,
        "r": b"at " + OLD,
        "s": b"excluded",
        "t": b"hidden",
        "late": b"the end",
    }
    assert "opt/conda/gone" not in fragment.members


@pytest.mark.parametrize("size", [1, 2 << 20])
def test_a_hard_link_has_the_mode_and_time_of_its_file(tmp_path: Path, size: int) -> None:
    files: dict[str, Entry] = {
        "a": File(b"x" * size, 0o6755, mtime=TIME - 99),
        "b": Link("a", hard=True),
        "c": Link("b", hard=True),
    }
    fragment = Fragment(conda(files, tmp_path))
    assert {(member.mode, member.mtime) for member in fragment.members.values()} == {(0o755, TIME - 99)}
    assert [fragment[name].linkname for name in "bc"] == ["opt/conda/a"] * 2


def test_a_hard_link_to_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageRefused, match="hard link to nowhere"):
        Fragment(conda({"a": Link("nowhere", hard=True)}, tmp_path))


def test_replaced_files_are_later_and_recorded(tmp_path: Path) -> None:
    files = {"t": File(b"#!" + OLD + b"/bin/sh\n", 0o755, "text"), "b": File(OLD + b"/x\0", placeholder="binary")}
    fragment = Fragment(conda(files, tmp_path, timestamp=1_700_000_000_999))
    binary = b"/opt/conda/x".ljust(len(OLD) + 2, b"\0") + b"\0"
    assert fragment.content == {"opt/conda/t": b"#!/opt/conda/bin/sh\n", "opt/conda/b": binary}
    assert {member.mtime for member in fragment.members.values()} == {1_700_000_001}
    assert fragment.written == {
        "t": (hashlib.sha256(b"#!/opt/conda/bin/sh\n").hexdigest(), 20),
        "b": (hashlib.sha256(binary).hexdigest(), len(binary)),
    }


@pytest.mark.parametrize("size", [2 << 20, 9 << 20])
def test_big_replaced_files(tmp_path: Path, size: int) -> None:
    data = (b"x" * 999 + OLD + b"/y\0") * (size // 1000)
    files: dict[str, Entry] = {
        "t": File(data, placeholder="text"),
        "b": File(data, placeholder="binary"),
        "h": Link("t", hard=True, placeholder="text"),
    }
    fragment = Fragment(conda(files, tmp_path))
    assert fragment.content["opt/conda/t"] == fragment.content["opt/conda/h"] == data.replace(OLD, b"/opt/conda")
    assert fragment.content["opt/conda/b"] == data.replace(OLD + b"/y", b"/opt/conda/y".ljust(len(OLD) + 2, b"\0"))


def test_a_prefix_too_long_for_a_binary_is_refused(tmp_path: Path) -> None:
    made = conda({"b": File(OLD, placeholder="binary")}, tmp_path)
    with pytest.raises(PackageRefused, match="shorter prefix"):
        Fragment(made, prefix="/" + "x" * len(OLD))


def test_entry_points_come_last_and_win_over_their_package(tmp_path: Path) -> None:
    files = {"python-scripts/tool": b"old", "site-packages/tool.py": b""}
    made = conda(files, tmp_path, noarch="python", entry_points=["tool = tool:main.run", "other = tool:x"])
    fragment = Fragment(made, PYTHON, excluded=("bin/other",))
    assert list(fragment.members) == ["opt/conda/lib/python3.11/site-packages/tool.py", "opt/conda/bin/tool"]
    script = fragment.content["opt/conda/bin/tool"].decode()
    assert script.startswith("#!/opt/conda/bin/python3.11\n")
    assert "from tool import main\n" in script
    assert "sys.exit(main.run())" in script
    assert (fragment["bin/tool"].mode, fragment["bin/tool"].mtime) == (0o755, TIME + 1)
    assert fragment.written["bin/tool"] == (hashlib.sha256(script.encode()).hexdigest(), len(script))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": tarfile.CHRTYPE}, "neither file, link nor directory"),
        ({"type": tarfile.BLKTYPE}, "neither file, link nor directory"),
        ({"type": tarfile.FIFOTYPE}, "neither file, link nor directory"),
        ({"name": "../f"}, "leads out"),
        ({"name": "/f"}, "leads out"),
        ({"name": "a/../../f"}, "leads out"),
        ({"type": tarfile.LNKTYPE, "linkname": "../../etc/passwd"}, "leads out"),
        ({"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}, "leads out"),
        ({"type": tarfile.SYMTYPE, "linkname": ""}, "points nowhere"),
        ({"type": tarfile.DIRTYPE}, "a directory in the archive"),
    ],
)
def test_hostile_members_are_refused_and_leave_nothing(tmp_path: Path, change: dict[str, object], said: str) -> None:
    def alter(info: tarfile.TarInfo) -> None:
        for name, value in change.items():
            setattr(info, name, value)

    package = Package(files={"f": b""})
    parts = {"pkg-x.tar.zst": pack({"f": b""}, alter), "info-x.tar.zst": pack(package.info_files())}
    made = package.made(
        tmp_path, "x.conda", zip_parts({name: zstandard.compress(data) for name, data in parts.items()})
    )
    with pytest.raises(PackageRefused, match=said):
        Fragment(made)
    assert not [path for path in (tmp_path / "fragments").rglob("*") if path.is_file()]


def test_a_member_twice_is_refused(tmp_path: Path) -> None:
    package = Package(files={"f": b""})
    twice = pack({"f": b"", "./f": b"other"})
    parts = {"pkg-x.tar.zst": twice, "info-x.tar.zst": pack(package.info_files())}
    made = package.made(
        tmp_path, "x.conda", zip_parts({name: zstandard.compress(data) for name, data in parts.items()})
    )
    with pytest.raises(PackageRefused, match="f occurs twice"):
        Fragment(made)


def test_odd_names_of_members_are_understood(tmp_path: Path) -> None:
    package = Package(files={"d/f": b"1"})
    parts = {"pkg-x.tar.zst": pack({"./d//f": b"1"}), "info-x.tar.zst": pack(package.info_files())}
    made = package.made(
        tmp_path, "x.conda", zip_parts({name: zstandard.compress(data) for name, data in parts.items()})
    )
    assert list(Fragment(made).members) == ["opt/conda/d/f"]


@pytest.mark.parametrize("make", [Package.conda, Package.tar_bz2])
def test_the_same_recipe_gives_the_same_bytes(tmp_path: Path, make: Callable[[Package, Path], Made]) -> None:
    files = {f"lib/{number}": os.urandom(number * 50) for number in range(200)}
    package = Package(files={**files, "t": File(OLD, placeholder="text")})
    first, second = Fragment(make(package, tmp_path / "a")), Fragment(make(package, tmp_path / "b"))
    assert first.bytes == second.bytes
    assert first.info == second.info


def test_both_formats_give_the_same_bytes(tmp_path: Path) -> None:
    package = Package(files={"a": os.urandom(3_000_000), "b/c": b"x"})
    assert Fragment(package.conda(tmp_path / "a")).bytes == Fragment(package.tar_bz2(tmp_path / "b")).bytes


def test_every_input_is_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = FragmentRecipe("a" * 64, PREFIX)
    others = [
        replace(recipe, archive_key="b" * 64),
        replace(recipe, prefix="/opt/other"),
        replace(recipe, python=PYTHON),
        replace(recipe, python=PythonLayout("3.12", PYTHON.site_packages)),
        replace(recipe, python=PythonLayout("3.11", "other")),
        replace(recipe, excluded=("a",)),
        replace(recipe, excluded=("a", "b")),
        replace(recipe, codec="other"),
    ]
    keys = {each.key for each in [recipe, *others]}
    assert len(keys) == 9
    monkeypatch.setattr(fragment_module, "FORMAT", 0)
    assert replace(recipe).key not in keys


def test_the_sidecar_is_read_back_only_when_it_fits(tmp_path: Path) -> None:
    fragment = Fragment(conda({"t": File(OLD, placeholder="text")}, tmp_path))
    sidecar = fragment.path.with_name(fragment.path.name + ".json")
    assert read_info(fragment.path) == fragment.info
    fragment.path.write_bytes(fragment.bytes[:-1])
    assert read_info(fragment.path) is None
    fragment.path.write_bytes(fragment.bytes)
    for broken in (b"{", b"{}", b"[]", b'{"size": %d}' % fragment.info.size):
        sidecar.write_bytes(broken)
        assert read_info(fragment.path) is None
    sidecar.unlink()
    assert read_info(fragment.path) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, the device that is always full")
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = conda({"f": os.urandom(1 << 20)}, tmp_path)
    inspect(made.path, made.record, None, tmp_path / "contents")
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - closed by the code under test
    monkeypatch.setattr("storage.disk.files.open", lambda *_: full, raising=False)
    (tmp_path / "fragments").mkdir()
    with pytest.raises(StorageFull):
        Fragment(made)
    assert not [path for path in (tmp_path / "fragments").rglob("*") if path.is_file()]


async def test_it_equals_what_rattler_installs(tmp_path: Path) -> None:
    """Path, kind, mode class, link target and content of every file of one package with everything in it."""
    long_line = b"#!" + OLD + b"/bin/" + b"x" * 120 + b" -a\nrest " + OLD
    files: dict[str, Entry] = {
        "bin/run": File(b"#!" + OLD + b"/bin/python\n# " + OLD, 0o775, "text"),
        "bin/long": File(long_line, 0o775, "text"),
        "lib/bin.so": File(b"\x7fELF" + OLD + b":" + OLD + b"/x\0next\0" + OLD, 0o755, "binary"),
        "lib/plain": File(b"no prefix here", placeholder="text"),
        "lib/data": b"\0" * 70_000,
        "lib/link": Link("data"),
        "lib/twin": Link("lib/data", hard=True),
        "share/é/" + "n" * 120: b"long",
        "site-packages/pkg/__init__.py": b"import sys",
        "python-scripts/script": File(b"#!" + OLD + b"/bin/python", 0o755),
    }
    made = conda(files, tmp_path, noarch="python", entry_points=["cmd = pkg.cli:main", "two-b = pkg:a.b"])
    python = Package(name="python", version="3.11.4", files={"bin/python3.11": File(b"", 0o755)}).conda(tmp_path)
    target = await install([made, python], tmp_path / "installed", PREFIX)
    fragment = Fragment(made, PYTHON)
    expected = {path: described(target / path) for path in installed_paths(target) if path != "bin/python3.11"}
    found = {}
    for name, member in fragment.members.items():
        origin = fragment.members[member.linkname] if member.islnk() else member
        value = origin.linkname if origin.issym() else fragment.content[origin.name]
        found[name.removeprefix("opt/conda/")] = (
            origin.issym(),
            bool(member.mode & 0o111) and not origin.issym(),
            value,
        )
    assert found == expected


def described(path: Path) -> tuple[bool, bool, object]:
    if path.is_symlink():
        return True, False, str(path.readlink())
    return False, bool(path.stat().st_mode & 0o111), path.read_bytes()


def test_info_survives_its_json() -> None:
    info = FragmentInfo("k", 1, 2, ("a is a link",))
    assert FragmentInfo.from_json("k", info.to_json()) == info
