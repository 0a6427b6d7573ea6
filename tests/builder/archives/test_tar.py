"""Headers that `tarfile` and GNU tar read back, and archives of theirs that the reader reads."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builder.archives import tar
from builder.archives.tar import make_header, pad
from builder.archives.tar_reader import Member, Renamed, TarError, TarReader
from tests.support.builder.packages import TIME, Directory, File, Link, pack

_part = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60).filter(
    lambda text: text not in (".", "..")
)
_path = st.lists(_part, min_size=1, max_size=8).map("/".join)
_modes = st.sampled_from([0o644, 0o755, 0o777, 0o600])


def read(data: bytes) -> list[tuple[Member, bytes]]:
    reader = TarReader(io.BytesIO(data))
    return [(member, b"".join(map(bytes, reader.chunks()))) for member in reader]


@given(_path, st.binary(max_size=2000), _modes, st.integers(0, 1 << 33), st.integers(0, 2000))
@example("a" * 100, b"", 0o644, tar.EARLIEST, 0)
@example("a" * 101, b"", 0o644, tar.EARLIEST, 0)
@example("d" * 155 + "/" + "f" * 100, b"x", 0o755, tar.EARLIEST, 0)
@example("d" * 156 + "/" + "f" * 100, b"x", 0o755, tar.EARLIEST, 0)
def test_tarfile_reads_what_is_written(path: str, content: bytes, mode: int, mtime: int, owner: int) -> None:
    data = (
        make_header(path, size=len(content), mode=mode, mtime=mtime, owner=owner)
        + content
        + pad(len(content))
        + tar.END
    )
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (info,) = archive.getmembers()
        extracted = archive.extractfile(info)
        assert extracted is not None
        assert extracted.read() == content
    assert (info.name, info.mode, info.uid, info.gid) == (path, mode, owner, owner)
    assert info.mtime == min(max(mtime, tar.EARLIEST), 0o77777777777)
    assert (info.uname, info.gname) == ("", "")


@given(_path, _path)
def test_links_are_read_back(path: str, target: str) -> None:
    data = (
        make_header(path, kind=tar.SYMLINK, mode=0o777, link=target)
        + make_header(path, kind=tar.HARD_LINK, link=target)
        + tar.END
    )
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        symlink, hard_link = archive.getmembers()
    assert symlink.issym()
    assert hard_link.islnk()
    assert symlink.linkname == hard_link.linkname == target
    assert [(member.name, member.link) for member, _ in read(data)] == [(path, target)] * 2


def test_sizes_from_8_gib_are_in_a_pax_record() -> None:
    with tarfile.open(fileobj=io.BytesIO(make_header("big", size=9 << 30)), mode="r|") as archive:
        info = archive.next()
    assert info is not None
    assert (info.name, info.size) == ("big", 9 << 30)


@given(
    st.dictionaries(_path, st.binary(max_size=3000), max_size=8),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_reads_what_tarfile_writes(files: dict[str, bytes], form: int) -> None:
    found = read(pack(files, form=form))
    assert [(member.name, content) for member, content in found] == list(files.items())
    assert all(member.kind == tar.FILE and member.mtime == 1_600_000_000 for member, _ in found)


def test_reads_links_directories_and_big_members() -> None:
    content = bytes(range(256)) * 20_000
    found = read(pack({"d": Directory(), "l": Link("x/y"), "h": Link("d/f", hard=True), "d/f": File(content, 0o755)}))
    assert [(member.name, member.kind, member.link, member.size) for member, _ in found] == [
        ("d/", tar.DIRECTORY, "", 0),
        ("l", tar.SYMLINK, "x/y", 0),
        ("h", tar.HARD_LINK, "d/f", 0),
        ("d/f", tar.FILE, "", len(content)),
    ]
    assert found[3][1] == content


def test_reads_base_256_numbers_and_global_records() -> None:
    info = tarfile.TarInfo("f")
    info.size = 3
    info.mtime = -5
    data = info.tobuf(tarfile.GNU_FORMAT) + b"abc" + pad(3) + tar.END
    assert read(data) == [(Member("f", 3, 0o644, -5, tar.FILE, ""), b"abc")]

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"mtime": "7.5"}) as archive:
        archive.addfile(tarfile.TarInfo("g"))
    assert [member.mtime for member, _ in read(buffer.getvalue())] == [7]


@given(st.integers(0, 5000))
def test_a_cut_archive_is_an_error(length: int) -> None:
    data = pack({"a": b"x" * 1000, "é" * 60: b"y" * 700})
    whole = data[: data.rindex(b"y") + 1 + 512]
    with pytest.raises(TarError):
        read(whole[: min(length, 4096)])


def test_a_flipped_header_byte_is_an_error() -> None:
    data = bytearray(pack({"a": b"x"}))
    data[0] ^= 1
    with pytest.raises(TarError, match="header"):
        read(bytes(data))


@pytest.mark.parametrize(
    "records",
    [b"99999 path=a\n", b"x path=a\n", b"8 path\n", b"12 size=-55\n", b"13 size=abcd\n", b"18 GNU.sparse=1\n\n"],
)
def test_broken_extended_headers_are_errors(records: bytes) -> None:
    extended = tarfile.TarInfo("x")
    extended.type, extended.size = tarfile.XHDTYPE, len(records)
    data = extended.tobuf(tarfile.USTAR_FORMAT) + records + pad(len(records)) + make_header("f") + tar.END
    with pytest.raises(TarError):
        read(data)


def test_gnu_tar_reads_it(tmp_path: Path) -> None:
    names = ["plain", "d" * 90 + "/" + "f" * 90, "long/" + "x" * 180, "ünïcode/名"]
    data = b"".join(make_header(name, size=1) + b"1" + pad(1) for name in names) + tar.make_directory("dir") + tar.END
    (tmp_path / "t.tar").write_bytes(data)
    listed = subprocess.run(
        ["tar", "--quoting-style=literal", "-tf", tmp_path / "t.tar"], capture_output=True, check=True
    ).stdout.decode()
    assert listed.splitlines() == [*names, "dir/"]


class Written:
    """A sink that takes pieces of 256 KiB, of which it has `begun` bytes."""

    def __init__(self, begun: int) -> None:
        self.content = bytearray()
        self.pieces: list[int] = []
        self._begun = begun

    @property
    def room(self) -> int:
        return CHUNK - (self._begun + len(self.content)) % CHUNK

    def add(self, piece: bytes | memoryview) -> None:
        self.content += piece
        self.pieces.append(len(piece))


class Dripping(io.BytesIO):
    """A file that gives no more than 100,000 bytes at a time."""

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # TarReader gives nothing else
        return super().readinto(buffer[:100_000])


CHUNK = 1 << 18
_sizes = st.sampled_from([0, 1, 511, 512, 5000, 200_000, CHUNK - 512, CHUNK - 511, CHUNK, 3 * CHUNK - 100])
_names = st.sampled_from(["plain", "d" * 90 + "/plain", "long/" + "x" * 120, "é"])


@given(
    st.lists(st.tuples(_sizes, _names, _names, st.sampled_from(["rename", "copy", "skip"])), max_size=8),
    st.integers(0, 3).map(lambda blocks: blocks * 512),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
@example([(CHUNK - 512, "plain", "plain", "rename")] * 3, 0, tarfile.PAX_FORMAT)
def test_renamed_members_are_those_copied(members: list[tuple[int, str, str, str]], begun: int, form: int) -> None:
    files, names, expected = {}, {}, b""
    for number, (size, old, new, do) in enumerate(members):
        old, new, content = f"{number}/{old}", f"{number}/new/{new}", bytes([number + 1]) * size
        files[old] = File(content, 0o700 if number % 2 else 0o640)
        if do == "rename":
            names[old.encode()] = new.encode()
        if do != "skip":
            mode = 0o755 if number % 2 else 0o644
            expected += make_header(new, size=size, mode=mode, mtime=TIME) + content + pad(size)
    left, renamed, sink = dict(names), dict[bytes, Renamed](), Written(begun)
    reader = TarReader(Dripping(pack(files, form=form)), sink)
    while True:
        reader.rename(left, renamed)
        member = reader.next()
        if member is None:
            break
        number = int(member.name.partition("/")[0])
        if members[number][3] != "skip":
            new = f"{number}/new/{members[number][2]}"
            sink.add(make_header(new, size=member.size, mode=tar.normalize_mode(member.mode), mtime=member.mtime))
            for chunk in reader.chunks():
                sink.add(chunk)
            sink.add(pad(member.size))
    assert bytes(sink.content) == expected
    assert all(new == names[old] and mtime == TIME for old, (new, _, mtime, _) in renamed.items())
    assert {**left, **{old: new for old, (new, _, _, _) in renamed.items()}} == names


def test_what_is_renamed_comes_in_whole_pieces() -> None:
    sink = Written(0)
    files = {f"{number}": File(bytes(size)) for number, size in enumerate([1000, 3 * CHUNK, 50_000, 7, CHUNK])}
    TarReader(io.BytesIO(pack(files)), sink).rename({name.encode(): b"new/" + name.encode() for name in files}, {})
    assert set(sink.pieces[:-1]) == {CHUNK}


@pytest.mark.parametrize(
    ("offset", "value"), [(0, b"b"), (124, b"9"), (135, b" "), (136, b"+"), (148, b"7"), (156, b"7"), (345, b"p")]
)
def test_an_odd_or_broken_header_is_not_passed_on(offset: int, value: bytes) -> None:
    data = bytearray(pack({"a": b"x"}))
    data[offset : offset + 1] = value
    sink = Written(0)
    TarReader(io.BytesIO(bytes(data)), sink).rename({b"a": b"new/a"}, {})
    assert not sink.content


@pytest.mark.parametrize("length", [600, 1024 + 511, CHUNK + 512, 2 * CHUNK])
def test_a_renamed_member_that_is_cut_is_an_error(length: int) -> None:
    data = pack({"a": b"x" * 100, "b": b"y" * 2 * CHUNK})[:length]
    reader = TarReader(io.BytesIO(data), Written(0))

    def read_on() -> None:
        reader.rename({b"a": b"new/a", b"b": b"new/b"}, {})
        reader.next()

    with pytest.raises(TarError, match="truncated"):
        read_on()
