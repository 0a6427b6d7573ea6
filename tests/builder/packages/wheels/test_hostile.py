"""Wheels that mean harm, or lie: each is refused with its reason, and leaves nothing behind."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from builder.archives.archive import DEFAULT_LIMITS, ArchiveLimits
from builder.errors import PackageRefused
from tests.support.wheels.making import MadeWheel, Member, Wheel
from tests.support.wheels.raw_zip import Entry, list_entries, write_zip
from tests.support.wheels.trees import WheelFragment

SITE = "lib/python3.11/site-packages"
DATA = "sample-1.0.data"
INFO = "sample-1.0.dist-info"
WHEEL = Wheel(files={"a.py": b"a = 1\n" * 50, "b.py": b"b = 2\n"})


def refuse(made: MadeWheel, folder: Path, reason: str, limits: ArchiveLimits = DEFAULT_LIMITS) -> None:
    """Assert that the wheel is refused, and that nothing of it is anywhere."""
    with pytest.raises(PackageRefused, match=reason):
        WheelFragment(made, folder, limits=limits)
    for left in ("fragments", "contents"):
        names = [path.name for path in (folder / left).rglob("*") if path.is_file()]
        # what was read is remembered by the archive's hash; what was written is not
        assert left == "contents" or names == []


@pytest.mark.parametrize(
    "name",
    [
        b"../a.py", b"/a.py", b"a/../../b.py", b"..", b"a/..", b"./a.py", b"a//b.py", b"a\\b.py", b"..\\b.py",
        b"C:/a.py", b"a\0b.py", b"a\nb.py", b"a\x7f.py", b"a\x1b[2J.py", "a\u202eb.py".encode(),
        "a\u200bb.py".encode(), b"", b"/", b".wh.a.py", b"folder/.wh..wh..opq", b"a/" * 600 + b"b", b"x" * 3000,
    ],
)  # fmt: skip
def test_names_that_lead_out_or_are_odd(tmp_path: Path, name: bytes) -> None:
    content = write_zip([*list_entries(WHEEL), Entry(name, b"x")])
    refuse(
        WHEEL.made(tmp_path, content), tmp_path, "leads out|too long|named like a directory|cannot be installed|path"
    )


@pytest.mark.parametrize("name", ["\u00e9.py".encode("latin-1"), "\u00e9.py".encode("cp437"), b"\xff\xfe"])
@pytest.mark.parametrize("flags", [0, 1 << 11])
def test_names_in_other_encodings(tmp_path: Path, name: bytes, flags: int) -> None:
    entry = Entry(name, b"x", local={"flags": flags}, central={"flags": flags})
    refuse(WHEEL.made(tmp_path, write_zip([*list_entries(WHEEL), entry])), tmp_path, "is not UTF-8")


def test_names_with_half_of_a_character(tmp_path: Path) -> None:
    entry = Entry("a\ud800.py".encode("utf-8", "surrogatepass"), b"x")
    refuse(WHEEL.made(tmp_path, write_zip([*list_entries(WHEEL), entry])), tmp_path, "is not UTF-8")


def test_a_name_beside_the_name(tmp_path: Path) -> None:
    other = b"c.py"
    field = struct.pack("<2HBL", 0x7075, 5 + len(other), 1, zlib.crc32(b"b.py")) + other
    entries = list_entries(WHEEL)
    entries[1].central_extra = field
    refuse(WHEEL.made(tmp_path, write_zip(entries)), tmp_path, "has a second name")


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o060666, 0o010644, 0o140755, 0o040755])
def test_links_and_devices(tmp_path: Path, mode: int) -> None:
    wheel = Wheel(files={"link": Member(b"/etc/passwd", mode=mode)})
    refuse(wheel.write(tmp_path), tmp_path, "its member link is a link, a directory or a device")


def test_a_directory_by_its_attributes_of_dos(tmp_path: Path) -> None:
    refuse(Wheel(files={"a": Member(b"", attributes=0x10)}).write(tmp_path), tmp_path, "not a file")


def _two_in_one_place(entries: list[Entry]) -> None:
    entries.insert(1, Entry(b"c.py", entries[0].content, central={"offset": 0}))


def _zip64(*numbers: int) -> bytes:
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


LIES: dict[str, tuple[str, Callable[[list[Entry]], object]]] = {
    "another name": ("says other than the zip's directory", lambda e: setattr(e[0], "local_name", b"z.py")),
    "another size": ("says other than", lambda e: e[0].local.update(size=1)),
    "another packed size": ("says other than", lambda e: e[0].local.update(packed=1)),
    "another checksum": ("says other than", lambda e: e[0].local.update(crc=1)),
    "another method": ("says other than", lambda e: e[0].local.update(method=0)),
    "other flags": ("says other than", lambda e: e[0].local.update(flags=2)),
    "a wrong checksum": (
        "not of the size or the checksum",
        lambda e: (e[0].local.update(crc=1), e[0].central.update(crc=1)),
    ),
    "more than it says": (
        "not of the size or the checksum|but 6 in its RECORD|bytes, but",
        lambda e: (e[0].local.update(size=10), e[0].central.update(size=10)),
    ),
    "encrypted": ("is encrypted", lambda e: (e[0].local.update(flags=1), e[0].central.update(flags=1))),
    "bzip2": ("is encrypted, or compressed", lambda e: (e[0].local.update(method=12), e[0].central.update(method=12))),
    "stored of two sizes": (
        "but has two sizes",
        lambda e: (e[0].local.update(method=0), e[0].central.update(method=0)),
    ),
    "no deflate": ("not sound deflate data|truncated|checksum", lambda e: setattr(e[0], "data", b"\xff" * 20)),
    "deflate and more": ("something after it|sound deflate", lambda e: _lengthen(e[0])),
    "cut deflate": ("truncated|checksum", lambda e: _cut(e[0])),
    "on another disk": ("is encrypted, or compressed", lambda e: e[0].central.update(disk=1)),
    "a member twice": ("has the member a.py twice", lambda e: e.insert(1, Entry(b"a.py", e[0].content))),
    "two in one place": ("does not lie|says other than|does not begin|overlaps", _two_in_one_place),
    "one in another": ("does not lie|overlaps|does not begin", lambda e: e[1].central.update(offset=20)),
    "an offset after the end": (
        "bytes of nothing after its member a.py",
        lambda e: e[1].central.update(offset=1 << 30),
    ),
    "a descriptor that is not announced": ("bytes of nothing", lambda e: setattr(e[0], "descriptor", bytes(12))),
    "a descriptor that lies": ("the descriptor of its member a.py", lambda e: _describe(e[0], size=1)),
    "no descriptor": ("the descriptor of its member a.py", lambda e: _describe(e[0], missing=True)),
    "zip64 without need": ("zip64 field", lambda e: setattr(e[0], "central_extra", _zip64(1, 2, 3))),
    "zip64 in the header": ("zip64 field", lambda e: setattr(e[0], "local_extra", _zip64(1, 2))),
    "zip64 of no size": ("zip64 field", lambda e: setattr(e[0], "central_extra", b"\1\0\3\0abc")),
    "zip64 that lies": (
        "says other than|to more than|its RECORD",
        lambda e: _widen(e[0], 1 << 20),
    ),
    "a directory with content": ("named like a directory", lambda e: e.append(Entry(b"folder/", b"x"))),
    "a file and a directory": ("is a file or link, but", lambda e: e.append(Entry(b"a.py/c.py", b"x"))),
    "an empty directory in a file's place": (
        "a.py twice",
        lambda e: e.append(Entry(b"a.py/", central={"attributes": 0})),
    ),
}


def _widen(entry: Entry, size: int) -> None:
    entry.central.update(size=0xFFFFFFFF)
    entry.central_extra = _zip64(size)


def _lengthen(entry: Entry) -> None:
    entry.facts({})
    assert entry.data is not None
    entry.data += b"more"


def _cut(entry: Entry) -> None:
    entry.facts({})
    assert entry.data is not None
    entry.data = entry.data[:-3]


def _describe(entry: Entry, *, size: int | None = None, missing: bool = False) -> None:
    facts = entry.facts({})
    entry.local.update(flags=8, crc=0, packed=0, size=0)
    entry.central.update(flags=8)
    if not missing:
        entry.descriptor = struct.pack(
            "<4s3L", b"PK\x07\x08", facts["crc"], facts["packed"], facts["size"] if size is None else size
        )


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_say_other_than_the_directory(tmp_path: Path, lie: str) -> None:
    reason, tell = LIES[lie]
    entries = list_entries(WHEEL)
    tell(entries)
    refuse(WHEEL.made(tmp_path, write_zip(entries)), tmp_path, reason)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (write_zip(list_entries(WHEEL), before=b"#!/bin/sh\n"), "before its first member|does not begin"),
        (write_zip(list_entries(WHEEL), between=b"between"), "bytes of nothing after"),
        (write_zip(list_entries(WHEEL), after=b"after"), "something after the end|no zip file"),
        (write_zip(list_entries(WHEEL), after=bytes(10)), "something after the end"),
        (write_zip(list_entries(WHEEL), comment=b"PK\x05\x06" + bytes(18)), "something after the end|directory"),
        (write_zip(list_entries(WHEEL), comment=b"\x01"), "in its comment"),
        (write_zip(list_entries(WHEEL), more=1), "directory is truncated|damaged"),
        (write_zip(list_entries(WHEEL), more=-1), "more members than its end says"),
        (write_zip(list_entries(WHEEL), shift=-1), "does not lie where its end says"),
        (write_zip(list_entries(WHEEL), shift=1), "does not lie where its end says"),
        (write_zip(list_entries(WHEEL), disk=1), "a part of a zip of several files"),
        (write_zip([]), r"0 .dist-info directories \(none\)"),
        (b"", "no zip file"),
        (b"PK\x05\x06", "no zip file"),
        (write_zip(list_entries(WHEEL))[:-1], "no zip file|something after"),
        (write_zip(list_entries(WHEEL))[:200], "no zip file"),
    ],
)
def test_files_that_are_more_or_less_than_a_zip(tmp_path: Path, written: bytes, reason: str) -> None:
    refuse(WHEEL.made(tmp_path, written), tmp_path, reason)


def test_honest_descriptors_and_comments_are_read(tmp_path: Path) -> None:
    entries = list_entries(WHEEL)
    for entry in entries:
        _describe(entry)
    entries[0].descriptor = entries[0].descriptor[4:]
    made = WHEEL.made(tmp_path, write_zip(entries, comment=b"made by hand"))
    assert WheelFragment(made, tmp_path).files[f"{SITE}/a.py"].content == b"a = 1\n" * 50


def test_honest_zip64_is_read(tmp_path: Path) -> None:
    entries = list_entries(WHEEL)
    facts = entries[0].facts({})
    for headers in (entries[0].local, entries[0].central):
        headers.update(size=0xFFFFFFFF, packed=0xFFFFFFFF)
    entries[0].local_extra = entries[0].central_extra = _zip64(facts["size"], facts["packed"])
    made = WHEEL.made(tmp_path, write_zip(entries))
    assert WheelFragment(made, tmp_path).files[f"{SITE}/a.py"].content == b"a = 1\n" * 50


class TestBombs:
    def test_expansion(self, tmp_path: Path) -> None:
        made = Wheel(files={"a": bytes(80 << 20)}).write(tmp_path)
        refuse(made, tmp_path, r"more than the allowed 67108864 bytes \(max_ratio\)")

    def test_size(self, tmp_path: Path) -> None:
        made = Wheel(files={"a": bytes(5000)}).write(tmp_path)
        refuse(made, tmp_path, r"more than the allowed 4096 bytes \(max_expanded\)", ArchiveLimits(expanded=4096))

    def test_more_than_is_announced(self, tmp_path: Path) -> None:
        entries = list_entries(Wheel(files={"a.py": b""}, record={"a.py": ","}))
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        entries[0].data = compressor.compress(bytes(50 << 20)) + compressor.flush()
        refuse(WHEEL.made(tmp_path, write_zip(entries)), tmp_path, "not of the size or the checksum")

    def test_members(self, tmp_path: Path) -> None:
        made = Wheel(files={f"{number}.py": b"" for number in range(30)}).write(tmp_path)
        refuse(made, tmp_path, r"33 members; at most 20 are allowed \(max_paths\)", ArchiveLimits(paths=20))

    def test_names(self, tmp_path: Path) -> None:
        made = Wheel(files={"x" * 900: b"", "y" * 900: b""}).write(tmp_path)
        refuse(made, tmp_path, "more than 1000 characters", ArchiveLimits(text=1000))

    def test_a_directory_of_extra_fields(self, tmp_path: Path) -> None:
        entries = list_entries(WHEEL)
        entries[0].central_extra = struct.pack("<2H", 0xCAFE, 60_000) + bytes(60_000)
        refuse(WHEEL.made(tmp_path, write_zip(entries)), tmp_path, "directory has .* bytes for")

    @pytest.mark.parametrize("document", ["WHEEL", "METADATA", "entry_points.txt"])
    def test_documents(self, tmp_path: Path, document: str) -> None:
        made = Wheel(information={document: b"x" * (17 << 20)}).write(tmp_path)
        refuse(made, tmp_path, f"{document} has 17825792 bytes; at most")

    def test_fields(self, tmp_path: Path) -> None:
        metadata = b"Name: sample\nVersion: 1.0\nSummary: " + b"x" * (2 << 20)
        refuse(Wheel(information={"METADATA": metadata}).write(tmp_path), tmp_path, "fields of")

    def test_rows(self, tmp_path: Path) -> None:
        made = Wheel(information={"RECORD": b"a,,\n" * 100}).write(tmp_path)
        refuse(made, tmp_path, "more than 30 rows", ArchiveLimits(paths=20))

    def test_commands(self, tmp_path: Path) -> None:
        lines = "\n".join(f"c{number} = a:b" for number in range(10_001))
        made = Wheel(entry_points=f"[console_scripts]\n{lines}\n").write(tmp_path)
        refuse(made, tmp_path, "it has 10001 commands")


A_HASH = f"sha256={'A' * 43}"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"c.py": f"{A_HASH},1"}, "lists 'c.py', which it does not have"),
        ({"../c.py": f"{A_HASH},1"}, "which it does not have"),
        ({"/a.py": f"{A_HASH},1"}, "which it does not have"),
        ({"a.py": f"{A_HASH},300"}, "'a.py' has the sha256 .*, but 0000"),
        ({"a.py": f"{A_HASH},7"}, "has 300 bytes, but 7 in its RECORD"),
        ({"a.py": "md5=abc,300"}, "by 'md5'; sha256 is expected"),
        ({"a.py": "sha256=abc,300"}, "which is none"),
        ({"a.py": "sha256=,300"}, "which is none"),
        ({"a.py": f"{A_HASH},-1"}, "the size '-1'"),
        ({"a.py": f"{A_HASH},\u0663"}, "the size"),
        ({"a.py": f"{A_HASH},300,more"}, "a row of 4 fields"),
        ({"a.py": A_HASH}, "a row of 2 fields"),
        ({"\udcff.py": ","}, "its RECORD is not UTF-8"),
    ],
)
def test_records_that_do_not_match(tmp_path: Path, record: dict[str, str], reason: str) -> None:
    refuse(Wheel(files=WHEEL.files, record=record).write(tmp_path), tmp_path, reason)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (None, "it has no RECORD in its .dist-info directory"),
        (b'"a.py,,\n', "a row that makes no sense"),
        (b"a.py,,\na.py,,1\n", "'a.py' twice, with different hashes"),
        (b"a.py\n", "a row of 1 fields"),
    ],
)
def test_records_that_are_none(tmp_path: Path, record: bytes | None, reason: str) -> None:
    refuse(Wheel(files={"a.py": b"1"}, information={"RECORD": record}).write(tmp_path), tmp_path, reason)


@pytest.mark.parametrize(
    ("wheel", "reason"),
    [
        (Wheel(information={"WHEEL": None}), "it has no WHEEL"),
        (Wheel(information={"METADATA": None}), "it has no METADATA"),
        (Wheel(information={"WHEEL": b"Wheel-Version: 2.0\n"}), "the Wheel-Version '2.0'; only 1 is known"),
        (Wheel(information={"WHEEL": b"Wheel-Version: 10.0\n"}), "only 1 is known"),
        (Wheel(information={"WHEEL": b"Wheel-Version: 1\n"}), "which is none"),
        (Wheel(information={"WHEEL": b"Wheel-Version: \xff.0\n"}), "which is none"),
        (Wheel(information={"WHEEL": b"Generator: x\n"}), "which is none"),
        (Wheel(information={"METADATA": b"Name: other\nVersion: 1.0\n"}), "is that of 'other' '1.0'"),
        (Wheel(information={"METADATA": b"Name: sample\nVersion: 2.0\n"}), "is that of 'sample' '2.0'"),
        (Wheel(information={"METADATA": b"Name: sample\nVersion: x\n"}), "is that of"),
        (Wheel(information={"METADATA": b"\n\nName: sample\nVersion: 1.0\n"}), "is that of '' ''"),
        (Wheel(directory="other-1.0.dist-info"), "'other-1.0.dist-info' is named for something else"),
        (Wheel(directory="sample-2.0.dist-info"), "is named for something else"),
        (Wheel(directory="sample.dist-info"), "is named for something else"),
        (Wheel(directory="sample-1.0"), r"0 .dist-info directories \(none\)"),
        (Wheel(files={"x-1.dist-info/METADATA": b""}), "2 .dist-info directories"),
        (Wheel(files={f"{DATA}/purelib/x-1.dist-info/METADATA": b""}), "which is another distribution's"),
        (Wheel(files={f"{DATA}/data/{SITE}/x-1.dist-info/METADATA": b""}), "which is another distribution's"),
        (Wheel(files={f"{DATA}/purelib/{INFO}/RECORD": b""}), "RECORD twice"),
        (Wheel(files={"a.py": b"", f"{DATA}/purelib/a.py": b""}), "a.py twice"),
        (Wheel(files={f"{DATA}/other/a.py": b""}), "no installer knows where to put"),
        (Wheel(files={f"{DATA}/a.py": b""}), "no installer knows where to put"),
        (Wheel(files={f"{DATA}/scripts/folder/a": b""}), "is in a directory of its own"),
        (Wheel(files={f"{DATA}/data/conda-meta/x.json": b"{}"}), "where only conda packages have files"),
        (Wheel(files={f"{DATA}/data/conda-meta/state": b"{}"}), "where only conda packages have files"),
        (Wheel(files={f"{DATA}/data/etc/conda/activate.d/x.sh": b""}), "where only conda packages have files"),
        (Wheel(files={f"{DATA}/data/etc/conda/env_vars.d/": Member(mode=0o40755)}), "where only conda packages"),
        (Wheel(files={f"{DATA}/data/conda-meta": b""}), "conda-meta"),
        (Wheel(files={f"{DATA}/data/.condery/entrypoint": b""}), "belongs to condery"),
        (Wheel(files={f"{DATA}/data/bin/a": b""}, entry_points="[console_scripts]\na = a:b\n"), "bin/a twice"),
        (Wheel(files={f"{DATA}/scripts/a": b"#!python" + b"x" * (1 << 19)}), "the first line of .* is too long"),
    ],
)
def test_wheels_that_are_not_what_they_say(tmp_path: Path, wheel: Wheel, reason: str) -> None:
    refuse(wheel.write(tmp_path), tmp_path, reason)


@pytest.mark.parametrize("name", ["other-1.0-py3-none-any.whl", "sample-1.1-py3-none-any.whl", "sample-1.0.tar.gz"])
def test_a_file_that_is_named_for_something_else(tmp_path: Path, name: str) -> None:
    made = WHEEL.write(tmp_path)
    refuse(
        MadeWheel(made.path, replace(made.record, file_name=name)), tmp_path, "named for another|not that of a wheel"
    )


PROGRAMS = """
python python3 python3.11 python3.13t python2 python2.7 Python PYTHON3 python.py python.exe pythonw pypy3 graalpy
sh bash dash env ENV activate activate.fish Activate.ps1 activate_this.py deactivate conda-unpack
"""


@pytest.mark.parametrize("name", PROGRAMS.split())
def test_programs_that_environments_have(tmp_path: Path, name: str) -> None:
    for number, wheel in enumerate(
        [
            Wheel(files={f"{DATA}/scripts/{name}": b"x"}),
            Wheel(files={f"{DATA}/data/bin/{name}": b"x"}),
            Wheel(entry_points=f"[console_scripts]\n{name} = a:b\n"),
            Wheel(entry_points=f"[gui_scripts]\n{name} = a:b\n"),
        ]
    ):
        refuse(wheel.write(tmp_path / str(number)), tmp_path, f"bin/{name}, which belongs to the environment itself")


@pytest.mark.parametrize(
    "line",
    [
        "a = os; import os:b", "a = a:b(); evil", "a = a:b'", "a = a b:c", "a = a", "a = :b", "a = a:", "a",
        "= a:b", "../a = a:b", "a/b = a:b", "a\\b = a:b", ".a = a:b", "a = a.1b:c", "a = a..b:c", "a = a:b [x",
        "a = a:b ]", "a = a-b:c", "a = a\u2028b:c", "x" * 2000 + " = a:b", "a = a:b # comment",
    ],
)  # fmt: skip
def test_commands_that_are_code(tmp_path: Path, line: str) -> None:
    made = Wheel(entry_points=f"[console_scripts]\n{line}\n").write(tmp_path)
    refuse(made, tmp_path, "does not have the form command = module:function")


def test_commands_of_several_lines(tmp_path: Path) -> None:
    made = Wheel(entry_points="[console_scripts]\na = a:b\n  c = d:e\n").write(tmp_path)
    refuse(made, tmp_path, "a value of several lines")
    refuse(Wheel(information={"entry_points.txt": b"\xff"}).write(tmp_path), tmp_path, "entry_points.txt is not UTF-8")


def test_an_environment_without_python(tmp_path: Path) -> None:
    with pytest.raises(PackageRefused, match="the environment has no python; ask for python too"):
        WheelFragment(WHEEL.write(tmp_path), tmp_path, python=None)


def test_a_wheel_of_another_hash(tmp_path: Path) -> None:
    made = WHEEL.write(tmp_path)
    made.path.write_bytes(write_zip(list_entries(Wheel(files={"evil.py": b"x"}))))
    refuse(made, tmp_path, "bytes, but its channel's record says|has sha256")
