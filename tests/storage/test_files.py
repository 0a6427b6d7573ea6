"""What a dead writer left is removed, and what a living one is writing is let be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from storage.files import TEMPORARY, atomic_write, remove_leftovers, temporary_directory


def test_what_is_being_written_is_no_leftover(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "new" / "file") as file, temporary_directory(tmp_path / "working") as directory:
        (directory / f"{TEMPORARY}inner").write_bytes(b"of the same writer")
        file.write(b"whole")
        assert remove_leftovers(tmp_path) == 0
        assert (directory / f"{TEMPORARY}inner").exists()
    assert (tmp_path / "new" / "file").read_bytes() == b"whole"
    assert not directory.exists()


KILLED = """
import os, pathlib, signal, sys
from storage.files import atomic_write, temporary_directory
root = pathlib.Path(sys.argv[1])
with atomic_write(root / "file") as file, temporary_directory(root / "working") as directory:
    file.write(b"half")
    (directory / "installed").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=Path(__file__).parents[2])
    assert len(list(tmp_path.rglob("*"))) == 4
    assert remove_leftovers(tmp_path) == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["working"]


def test_it_ends_when_it_is_told(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / f"{TEMPORARY}left").touch()
    answers = iter([False, False, True])
    assert remove_leftovers(tmp_path, lambda: next(answers)) == 1
    assert remove_leftovers(tmp_path) == 2
