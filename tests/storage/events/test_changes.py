"""Stamps change when and only when somebody marks, in all processes."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path
from zlib import crc32

from storage.events.changes import SLOTS, Changes

MARK = """
import sys; from pathlib import Path; from storage.events.changes import Changes
Changes(Path(sys.argv[1])).mark("team/a")
"""


def test_a_mark_is_seen_by_another_process(tmp_path: Path) -> None:
    changes = Changes(tmp_path / "changes")
    before, other = changes.stamp("team/a"), changes.stamp("team/b")
    subprocess.run([sys.executable, "-c", MARK, str(tmp_path / "changes")], check=True)
    assert changes.stamp("team/a") != before
    assert changes.stamp("team/b") == other


def test_opening_changes_nothing(tmp_path: Path) -> None:
    first = Changes(tmp_path / "changes")
    first.mark("a")
    stamp = first.stamp("a")
    assert Changes(tmp_path / "changes").stamp("a") == stamp == first.stamp("a")


def test_marking_all_marks_each(tmp_path: Path) -> None:
    changes = Changes(tmp_path / "changes")
    names = [f"repository/{number}" for number in range(100)]
    before = [changes.stamp(name) for name in names]
    changes.mark_all()
    assert not [name for name, stamp in zip(names, before, strict=True) if changes.stamp(name) == stamp]


def test_no_repository_shares_the_slot_of_what_decides_about_access(tmp_path: Path) -> None:
    changes = Changes(tmp_path / "changes")
    alike = next(name for n in count() if crc32((name := f"team/{n}").encode()) % SLOTS == crc32(b"//access") % SLOTS)
    access, repository = changes.stamp("//access"), changes.stamp(alike)
    changes.mark(alike)
    assert changes.stamp("//access") == access
    assert changes.stamp(alike) != repository
    repository = changes.stamp(alike)
    changes.mark("//access")
    assert changes.stamp("//access") != access
    assert changes.stamp(alike) == repository
    access = changes.stamp("//access")
    changes.mark_all()
    assert changes.stamp("//access") != access
