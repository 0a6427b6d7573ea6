"""Files are there whole or not at all; what a dead writer left is removed, and what a living one writes is let be."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from storage.disk.files import TEMPORARY, atomic_write, remove_leftovers, temporary_directory
from storage.errors import StorageFull


@pytest.mark.parametrize("scratch", [None, "scratch"])
def test_a_file_is_there_when_it_is_whole(tmp_path: Path, scratch: str | None) -> None:
    path = tmp_path / "ab" / "file"
    with atomic_write(path, scratch=tmp_path / scratch if scratch else None) as file:
        file.write(b"whole")
        file.flush()
        [unfinished] = [each for each in tmp_path.rglob("*") if each.is_file()]
        assert unfinished.name.startswith(TEMPORARY)
        assert unfinished.parent == tmp_path / (scratch or "ab")
    assert path.read_bytes() == b"whole"
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]


@pytest.mark.parametrize("scratch", [None, "scratch"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, scratch: str | None) -> None:
    def fill() -> None:
        with atomic_write(tmp_path / "file", scratch=tmp_path / scratch if scratch else None) as file:
            file.write(b"abc")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageFull, match="no space left"):
        fill()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name / "ab").mkdir(parents=True)
        for path in (f"{TEMPORARY}abc-file", "whole", f"ab/{TEMPORARY}deep"):
            (tmp_path / name / path).write_bytes(b"half")
    assert remove_leftovers([tmp_path / "one", tmp_path / "other", tmp_path / "missing"]) == 2
    left = sorted(str(path.relative_to(tmp_path / "one")) for path in (tmp_path / "one").rglob("*"))
    # one listing a folder: what is below has to be kept out of there
    assert left == ["ab", f"ab/{TEMPORARY}deep", "whole"]


def test_what_is_being_written_is_no_leftover(tmp_path: Path) -> None:
    scratch, working = tmp_path / "scratch", tmp_path / "working"
    with atomic_write(tmp_path / "new" / "file", scratch=scratch) as file, temporary_directory(working) as directory:
        (directory / f"{TEMPORARY}inner").write_bytes(b"of the same writer")
        file.write(b"whole")
        assert remove_leftovers([scratch, working]) == 0
        assert (directory / f"{TEMPORARY}inner").exists()
    assert (tmp_path / "new" / "file").read_bytes() == b"whole"
    assert not directory.exists()


KILLED = """
import os, pathlib, signal, sys
from storage.disk.files import atomic_write, temporary_directory
root = pathlib.Path(sys.argv[1])
with atomic_write(root / "ab" / "file", scratch=root) as file, temporary_directory(root / "working") as directory:
    file.write(b"half")
    (directory / "installed").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=Path(__file__).parents[3])
    assert len(list(tmp_path.rglob("*"))) == 4
    assert remove_leftovers([tmp_path, tmp_path / "working"]) == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["working"]


def test_it_ends_when_it_is_told(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{TEMPORARY}{number}").touch()
    answers = iter([False, False, True])
    assert remove_leftovers([tmp_path], lambda: next(answers)) == 2
    assert remove_leftovers([tmp_path]) == 1
