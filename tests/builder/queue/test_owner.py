"""Who is known to be gone: only who would be seen from here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.queue.owner import Owner, is_running


def test_a_name_is_read_back() -> None:
    owner = Owner.new()
    assert Owner.parse(str(owner)) == owner
    assert len(str(owner)) <= 255
    assert owner.boot
    assert owner.namespace
    assert owner.started


@pytest.mark.parametrize(
    "text", ["", "host/12/345", "me/1/2", "host/boot/ns/x/1/r", "host/boot/ns/-1/1/r", "a/b/c/1/2"]
)
def test_a_name_of_another_form_is_nobody(text: str) -> None:
    assert Owner.parse(text) is None


def test_two_engines_of_a_process_differ_and_see_each_other() -> None:
    one, two = Owner.new(), Owner.new()
    assert str(one) != str(two)
    assert one.can_see(two)
    assert is_running(two)


@pytest.mark.parametrize(
    "changed",
    [{"boot": "another boot"}, {"namespace": "4-4026539999"}, {"boot": ""}, {"namespace": ""}],
    ids=["another machine of this name, or this one before a reboot", "a container", "no boot id", "no namespace"],
)
def test_who_cannot_be_seen(changed: dict[str, Any]) -> None:
    """All of them have our host name, and may have our process id and start time by chance."""
    us = Owner.new()
    other = replace(us, random="0", **changed)
    assert not us.can_see(other)
    assert not other.can_see(us)
    unknown = replace(us, boot="", namespace="")
    assert not unknown.can_see(unknown)


def test_a_hidden_proc_tells_nothing(tmp_path: Path) -> None:
    owner = Owner.new(tmp_path)
    assert (owner.boot, owner.namespace, owner.started) == ("", "", "")
    assert Owner.parse(str(owner)) == owner
    assert not owner.can_see(owner)
    # hidepid: the process is there, and its files are not
    assert is_running(Owner.new(), tmp_path) is None


def test_another_users_process_is_one() -> None:
    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    assert is_running(Owner.new(), signal=refuse) is True


def test_a_process_of_the_same_id_that_began_later_is_another() -> None:
    assert is_running(replace(Owner.new(), started="1")) is False


def test_a_killed_process_is_gone_even_before_its_parent_has_looked() -> None:
    script = "from builder.queue.owner import Owner; print(Owner.new(), flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert process.stdout is not None
    owner = Owner.parse(process.stdout.readline().strip())
    assert owner is not None
    assert Owner.new().can_see(owner)
    assert is_running(owner) is True
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_running(owner) is False
    process.communicate()
    assert is_running(owner) is False
