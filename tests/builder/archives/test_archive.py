"""Archives that lie, break, or swell are refused with a reason; sound ones are read."""

import bz2
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from builder.archives import tar
from builder.archives.archive import ArchiveLimits, payload, read_info, verify
from builder.errors import PackageRefused
from tests.support.builder.packages import File, Made, Package, pack, zip_parts

SAMPLE = Package(files={"lib/a": b"a" * 5000, "lib/b": b"b"})


def names(path: Path, limits: ArchiveLimits = ArchiveLimits()) -> list[str]:  # noqa: B008 - frozen
    with payload(path, "sample", limits) as members:
        return [member.name for member in members]


def info_names(path: Path, limits: ArchiveLimits = ArchiveLimits()) -> list[str]:  # noqa: B008 - frozen
    return sorted(read_info(path, "sample", {"index.json", "paths.json"}, lambda _: False, limits).files)


def parts(**changed: bytes) -> bytes:
    content = {
        "pkg": zstandard.compress(pack(SAMPLE.files)),
        "info": zstandard.compress(pack({name: File(data) for name, data in SAMPLE.info_files().items()})),
        **changed,
    }
    return zip_parts({f"{part}-sample.tar.zst": data for part, data in content.items()})


@pytest.mark.parametrize("make", [Package.conda, Package.tar_bz2, lambda p, d: p.tar_bz2(d, info_last=True)])
def test_both_formats_are_read(tmp_path: Path, make: Callable[[Package, Path], Made]) -> None:
    made = make(SAMPLE, tmp_path)
    verify(made.path, "sample", made.record.size, made.record.sha256, None)
    verify(made.path, "sample", None, None, made.record.md5)
    assert [name for name in names(made.path) if not name.startswith("info/")] == ["lib/a", "lib/b"]
    assert info_names(made.path) == ["index.json", "paths.json"]


def test_several_zstandard_frames_are_one_part(tmp_path: Path) -> None:
    data = pack(SAMPLE.files)
    frames = zstandard.compress(data[:3000]) + zstandard.compress(data[3000:])
    path = SAMPLE.made(tmp_path, "sample.conda", parts(pkg=frames)).path
    assert names(path) == ["lib/a", "lib/b"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 1}, "bytes, but its channel's record says 1"),
        ({"sha256": "0" * 64}, "sha256"),
        ({"sha256": None, "md5": "0" * 32}, "md5"),
        ({"sha256": None, "md5": None}, "neither sha256 nor md5"),
    ],
)
def test_what_is_not_as_recorded_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    made = SAMPLE.conda(tmp_path)
    record = replace(made.record, **change)
    with pytest.raises(PackageRefused, match=said):
        verify(made.path, str(record), record.size, record.sha256, record.md5)


@pytest.mark.parametrize("make", [Package.conda, Package.tar_bz2])
def test_a_truncated_archive_is_refused(tmp_path: Path, make: Callable[[Package, Path], Made]) -> None:
    path = make(SAMPLE, tmp_path).path
    whole = path.read_bytes()
    for length in (0, 3, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(PackageRefused, match="sample"):
            names(path)


def test_a_truncated_part_is_refused(tmp_path: Path) -> None:
    data = zstandard.compress(pack({"lib/a": bytes(range(256)) * 4000}))
    path = SAMPLE.made(tmp_path, "sample.conda", parts(pkg=data[:-200])).path
    with pytest.raises(PackageRefused, match="truncated"):
        names(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not a package", "neither a .conda nor a .tar.bz2"),
        (b"PK\x03\x04 no zip", "zip"),
        (b"BZh9 no bzip2", "bzip2"),
        (parts(pkg=b"no zstandard"), "zstandard"),
        (parts(pkg=zstandard.compress(b"no tar" * 200)), "header"),
        (zip_parts({"info-sample.tar.zst": b""}), "0 members pkg-"),
        (zip_parts({"pkg-a.tar.zst": b"", "pkg-b.tar.zst": b""}), "2 members pkg-"),
        (zip_parts({"pkg-a.tar.zst": zstandard.compress(pack({}))}, zipfile.ZIP_DEFLATED), "must be stored"),
        (bz2.compress(b"no tar" * 200), "header"),
    ],
)
def test_what_is_no_package_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = SAMPLE.made(tmp_path, "sample.conda", content).path
    with pytest.raises(PackageRefused, match=said):
        names(path)


@pytest.mark.parametrize("field", [(20, 4), (24, 4), (42, 4)], ids=["compressed size", "size", "offset"])
def test_a_zip_directory_that_lies_is_refused(tmp_path: Path, field: tuple[int, int]) -> None:
    content = bytearray(zip_parts({"pkg-a.tar.zst": zstandard.compress(pack(SAMPLE.files))}))
    entry = content.rindex(b"PK\x01\x02")
    start = entry + field[0]
    content[start : start + field[1]] = (1 << 20).to_bytes(4, "little")
    path = SAMPLE.made(tmp_path, "sample.conda", bytes(content)).path
    with pytest.raises(PackageRefused, match="zip"):
        names(path)


@pytest.mark.parametrize("make", [Package.conda, Package.tar_bz2])
def test_a_bomb_is_stopped(tmp_path: Path, make: Callable[[Package, Path], Made]) -> None:
    path = make(Package(files={"lib/zeros": bytes(80 << 20)}), tmp_path).path
    with pytest.raises(PackageRefused, match="expands to more than"):
        names(path)
    with pytest.raises(PackageRefused, match="expands to more than the allowed 1000 bytes"):
        names(path, ArchiveLimits(expanded=1000))
    assert "lib/zeros" in names(path, ArchiveLimits(ratio=1e9))


def test_a_bomb_in_info_is_stopped(tmp_path: Path) -> None:
    path = Package(info={"index.json": bytes(5 << 20)}).conda(tmp_path).path
    with pytest.raises(PackageRefused, match="info/ files"):
        info_names(path, ArchiveLimits(info=1 << 20))


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "info/../../up"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    data = pack({"info/x": b""}, lambda header: setattr(header, "name", name))
    path = SAMPLE.made(tmp_path, "sample.conda", parts(info=zstandard.compress(data))).path
    with pytest.raises(PackageRefused, match="leads out"):
        info_names(path)


def test_gnu_headers_are_read(tmp_path: Path) -> None:
    data = pack({"d/" * 60 + "f": b"1"}, form=tarfile.GNU_FORMAT)
    path = SAMPLE.made(tmp_path, "sample.conda", parts(pkg=zstandard.compress(data))).path
    assert names(path) == ["d/" * 60 + "f"]


def test_a_zip_of_many_members_is_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "many.conda"
    path.write_bytes(zip_parts({str(number): b"" for number in range(3000)}))
    with pytest.raises(PackageRefused, match="the zip's directory has"):
        names(path)


def test_a_file_of_info_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """Of two listings the first is what we would read, the last what an unpacked package has."""
    info = pack({name: File(data) for name, data in SAMPLE.info_files().items()})
    other = pack({"info/paths.json": File(b"{}")})
    members = info.rstrip(b"\0")
    members += bytes(-len(members) % tar.BLOCK)
    path = SAMPLE.made(tmp_path, "sample.conda", parts(info=zstandard.compress(members + other))).path
    with pytest.raises(PackageRefused, match=r"member info/paths\.json occurs twice"):
        info_names(path)


def test_strays_are_what_the_info_tar_has_beside_info(tmp_path: Path) -> None:
    def strays(path: Path) -> bool:
        return read_info(path, "sample", {"index.json"}, lambda _: False).strays

    assert not strays(SAMPLE.conda(tmp_path).path)
    assert not strays(SAMPLE.tar_bz2(tmp_path).path)
    info = pack({**{name: File(data) for name, data in SAMPLE.info_files().items()}, "lib/stray": File(b"x")})
    assert strays(SAMPLE.made(tmp_path, "stray.conda", parts(info=zstandard.compress(info))).path)
