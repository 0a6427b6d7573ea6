"""Every command of docs/command-line.md works, in the order in which the page has them: on a store and at a server."""

from __future__ import annotations

import contextlib
import re
import shlex
import sqlite3

import pytest

from storage.layout import DataDirectory
from tests.support.registry.shell import Shell
from tests.support.rooms import ROOT
from tests.support.server import StartServer

FLAGS = ("--base", "scratch", "--workers", "1", "--repodata-refresh", "0")
PAGE = (ROOT / "docs/command-line.md").read_text()
COMMANDS = [
    shlex.split(re.sub(r"^\w+=\$\((.*)\)$", r"\1", line))[1:] for line in re.findall(r"^    (.+)$", PAGE, re.MULTILINE)
]
ELSEWHERE = ("--server", "--install-completion")
"""Of these the address is another, or the shell is changed."""


@pytest.mark.parametrize("where", ["here", "there"])
def test_every_command_of_the_page_works(
    shell: Shell, start_server: StartServer, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shell.directory / "data"
    if where == "there":
        server = start_server("--channels", shell.channel, *FLAGS)
        data = server.data_dir
        monkeypatch.setenv("CONDERY_SERVER", server.address)
    builds = 0
    for words in COMMANDS:
        if set(words) & set(ELSEWHERE):
            continue
        if where == "there" and words[:2] == ["env", "rollback"]:
            # these do not wait there
            shell("build logs -f default/analysis")
        if words[:2] in (["env", "create"], ["env", "update"]):
            builds += 1
            # a file that changes
            shell.write("analysis", "one" if builds % 2 else "three")
        line = " ".join(words).replace("python/numpy", "one/two").replace("python numpy", "one two")
        if where == "there" and line.startswith("explain"):
            line += " --server="
        shell(line)
    assert builds == 6
    assert shell.json("env alarms") == []
    database = sqlite3.connect(DataDirectory(data).database)
    with contextlib.closing(database), database:
        database.execute(
            "INSERT INTO environment_alarm SELECT id, 'It holds one.', 1.0 FROM environment_build WHERE id IN "
            "(SELECT current_build FROM environment WHERE name = 'pinned' AND deleted IS NULL)"
        )
    [alarm] = shell.json("env alarms")
    assert (alarm["environment"], alarm["reason"], alarm["since"]) == (
        "default/pinned", "It holds one.", "1970-01-01T00:00:01Z",
    )  # fmt: skip
    assert "It holds one." in shell("env alarms").stdout
    assert shell.json("env show pinned")["current"]["status"] in ("COMPLETED", "QUEUED", "BUILDING")


def test_a_shell_gets_what_completes_names(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.write("analysis", "one")
    shell("env create analysis.yaml --no-wait")

    def complete(*words: str) -> list[str]:
        monkeypatch.setenv("_CONDERY_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(["condery", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        try:
            return list(shell.condery().stdout.split())
        finally:
            monkeypatch.delenv("_CONDERY_COMPLETE")

    assert complete("env", "show", "an") == ["analysis"]
    assert complete("env", "rollback", "default/") == ["default/analysis"]
    assert complete("env", "cr") == ["create"]
    assert complete("build", "lo") == ["logs"]
    (shell.directory / "condery.toml").write_text("no such setting")
    assert complete("env", "show", "an") == []
