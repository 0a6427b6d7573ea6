"""The command line: help, exit codes, errors as one line, and the commands over a real channel."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from builder.names.image_name import parse_specs
from builder.progress import Event
from builder.queue.job import Job
from builder.queue.settings_key import make_settings_key
from builder.settings import BuilderSettings
from registry.cli.app import app
from registry.cli.commands.explain import _repository_and_tag
from registry.cli.display import PlainLines
from registry.cli.options import UsageError, reports_errors, takes_settings
from registry.settings.loading import InvalidSettings, LoadedSettings
from registry.settings.model import SECTIONS, all_settings
from storage.catalog.builds import Builds
from storage.database.engine import Database, migrate, sqlite_url
from storage.errors import ConderyError
from tests.support.server import StartServer

Run = Callable[..., Any]


def test_the_console_script_and_the_module_are_the_program() -> None:
    script = str(Path(sys.executable).with_name("condery"))
    for command in ([script], [sys.executable, "-m", "registry.cli"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True)
        assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "condery", "")


COMMANDS = ["serve", "build", "lock", "explain", "gc", "verify", "backup", "sample-channel", "demo", "settings"]


@pytest.mark.parametrize(
    "command", [*COMMANDS, "user", "group", "robot", "role", "namespace", "policy", "explain-access"]
)
def test_every_command_is_in_the_help_and_has_its_own(command: str) -> None:
    runner = CliRunner()
    assert command in runner.invoke(app, ["--help"]).output
    assert runner.invoke(app, [command, "--help"]).exit_code == 0


def test_a_misspelt_command_is_told_the_one_that_is_meant() -> None:
    done = CliRunner().invoke(app, ["serv"])
    assert done.exit_code == 2
    assert "No such command 'serv'. Did you mean 'serve'" in done.stderr


def test_a_command_does_not_wait_for_the_parts_of_others() -> None:
    """Nor does `--version` for any command."""
    program = (
        "import sys; from registry.cli import main; sys.argv[1:] = [%r, %r]\ntry: main()\nfinally: print(*sys.modules)"
    )
    for arguments, commands in ((("--version", "--help"), set()), (("gc", "--help"), {"gc"})):
        done = subprocess.run([sys.executable, "-c", program % arguments], capture_output=True, text=True)
        prefix = "registry.cli.commands."
        loaded = {name.removeprefix(prefix) for name in done.stdout.split() if name.startswith(prefix)}
        assert done.returncode == 0
        assert loaded == commands


@pytest.mark.parametrize(
    ("module", "foreign"),
    [("registry.settings.model", ("sqlalchemy", "aiohttp", "structlog")), ("builder.solve.process", ("aiohttp",))],
)
def test_no_start_waits_for_what_it_does_not_use(module: str, foreign: tuple[str, ...]) -> None:
    """Every command reads settings, and every server starts a process that solves: each would take twice as long."""
    program = f"import sys, {module}; print(*(set({foreign}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_serve_has_a_flag_for_every_setting_that_is_no_secret() -> None:
    output = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["serve", "--help-settings"]).output
    assert [setting.flag for setting in all_settings() if setting.flag not in output] == ["--vault-keys"]


OF_ACCOUNTS = {
    "user": "add list passwd sign-out disable enable delete",
    "group": "add list delete join leave",
    "robot": "add list disable enable delete",
    "role": "bind unbind list",
    "namespace": "create list quota delete",
    "policy": "show set check",
    "credential": "set list remove",
    "vault": "new-key rotate",
}
NESTED = ["settings show", *(f"{group} {name}" for group, names in OF_ACCOUNTS.items() for name in names.split())]


@pytest.mark.parametrize("command", [*COMMANDS[:-1], "explain-access", *NESTED])
def test_names_are_whole_on_a_narrow_terminal(command: str) -> None:
    """And so is what they take, and what the settings are said to be."""
    found: Any = typer.main.get_command(app)
    for word in command.split():
        found = found.get_command(None, word)
    flag = "--help-settings" if any("--help-settings" in each.opts for each in found.params) else "--help"
    output = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*command.split(), flag]).output
    assert max(map(len, output.splitlines())) <= 80
    names = set(re.split(r"[\s,/]+", output))
    options = [parameter for parameter in found.params if parameter.param_type_name == "option"]
    assert options
    assert {name for option in options for name in (*option.opts, *option.secondary_opts)} <= names
    letters = "".join(output.split())
    for option in options:
        assert "".join((option.help or "").split()) in letters, option


def test_help_has_the_usual_settings_and_says_where_the_others_are() -> None:
    run = CliRunner(env={"COLUMNS": "80"})
    for command in (["env", "create"], ["serve"], ["build"]):
        output = run.invoke(app, [*command, "--help"]).output
        assert len(output.splitlines()) < 80, command
        assert "--data-dir" in output
        assert "more settings are options of this command: --help-settings" in output
    assert "--help-settings" not in run.invoke(app, ["logout", "--help"]).output


def test_help_of_build_begins_with_the_commands_below_it() -> None:
    output = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["build", "--help"]).output
    assert "condery build [OPTIONS] SPEC...\n       condery build {list|show|logs|cancel} [ARGS]..." in output
    commands = output.partition("Commands:")[2].partition("Arguments:")[0]
    assert [line.split()[0] for line in commands.splitlines() if line.startswith("  ") and line[2] != " "] == [
        *("list", "show", "logs", "cancel")
    ]


def test_a_failure_is_told_as_json_to_who_asked_for_json(condery: Run, tmp_path: Path) -> None:
    """By a command and by what reads its arguments; the sentence for people stays on standard error."""
    for line, message in (
        ("env list --data-dir none", "there is no data directory none; give the server's with --data-dir"),
        ("env list --status x", "Invalid value for '--status': it is one of QUEUED"),
        ("env list --limit 3", "No such option: --limit"),
        ("env list --channel x", "--channel is a setting that `condery env list` does not use; leave it out"),
    ):
        done = condery(*line.split(), "--json")
        assert done.exit_code == 2
        error = json.loads(done.stdout)["error"]
        assert error["message"].startswith(message)
        assert error["exit_code"] == 2
        assert message in " ".join(done.stderr.split())


def test_defaults_in_help_are_written_plainly() -> None:
    assert "\\[" not in CliRunner().invoke(app, ["sample-channel", "--help"]).output


def test_what_commands_do_is_whole_on_a_narrow_terminal() -> None:
    output = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["--help"]).output
    words = " ".join(output.split())
    assert "makes an image. build Build an image into the local store, and print its reference with its digest" in words
    assert "..." not in output.partition("Commands:")[2]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["no-such-command"], 2, "no-such-command"),
        (["lock"], 2, "SPEC"),
        (["lock", "--format", "poem", "numpy"], 2, "poem"),
        (["settings", "show", "--port", "x"], 2, "condery: --port: must be a whole number, not 'x'"),
        (
            ["settings", "show", "--config", "none.toml"],
            2,
            "condery: settings file none.toml: No such file or directory",
        ),
        (
            ["build", "tzdata", "--push", "localhost:5000"],
            2,
            "--push: 'localhost:5000' does not start with a registry's",
        ),
        (["build", "numpy.gt"], 2, "condery: 'numpy.gt': operator gt has no version"),
        (
            ["explain", "numpy", "--channel", "https://me:hunter2@c.example/t/hunter2/x", "--channel", "b"],
            1,
            "condery: numpy: this has not been built here yet from the channels https://***@c.example/t/***/x, b for "
            "linux-64; pull it, or use `condery build`. If the server has other settings, give them: --config, or "
            "--channel and --platform (settings channels and platforms)",
        ),
        (["explain", "lock-0123456789ab"], 1, "condery: lock-0123456789ab: no such lock is stored here"),
        (["explain", "sha256:12"], 2, "condery: 'sha256:12' is not a digest"),
        (["explain", "numpy@sha256:12"], 2, "the digest alone"),
        (
            ["settings", "show", "--base", "debian"],
            2,
            "condery: --base: 'debian' does not start with a registry's host",
        ),
        (["gc"], 2, "condery: there is no data directory"),
        (["logout", "localhost:1", "--file", "/nothere/x.json"], 1, "there is no login for localhost:1"),
    ],
)
def test_mistakes_are_told_in_one_line(
    condery: Run, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    own_data = [] if arguments[0] in ("settings", "no-such-command", "logout") else ["--data-dir", tmp_path / "data"]
    done = condery(*arguments, *own_data)
    assert done.exit_code == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    if done.stderr.startswith("condery: "):
        assert done.stderr.count("\n") == 1


def test_debug_lets_the_error_through(condery: Run) -> None:
    done = condery("settings", "show", "--port", "x", "--debug")
    assert isinstance(done.exception, InvalidSettings)


def test_settings_show_tells_values_and_where_they_come_from(condery: Run, tmp_path: Path) -> None:
    (tmp_path / "condery.toml").write_text("root = 'images'\nchannels = ['https://me:hunter2@host/t/hunter2/c']\n")
    done = condery("settings", "show", "--json", "--port", "7")
    shown = json.loads(done.stdout)
    assert shown["port"] == {"value": "7", "origin": "--port"}
    assert shown["root"] == {"value": "images", "origin": "condery.toml: root"}
    assert shown["base"] == {"value": "host", "origin": "default"}
    assert shown["channels"]["value"] == "https://***@host/t/***/c"
    assert "port = 7  (--port)" in condery("settings", "show", "--port", "7").stdout


def test_a_command_has_its_own_parameters_and_its_sections_settings() -> None:
    seen: list[tuple[LoadedSettings, str]] = []

    @takes_settings("log")
    def command(loaded: LoadedSettings, word: str) -> None:
        """Says a word."""
        seen.append((loaded, word))

    assert list(inspect.signature(command).parameters) == ["word", "config", "debug", "log_level", "log_format"]
    command(word="w", config=None, debug=False, log_level="error", log_format=None)
    [(loaded, word)] = seen
    assert (loaded.settings.log.log_level, word) == ("error", "w")


@pytest.mark.parametrize(
    ("error", "code"), [(ConderyError("it broke"), 1), (OSError(28, "No space"), 1), (UsageError("not so"), 2)]
)
def test_exit_codes(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    @reports_errors
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as raised:
        command(debug=False)
    assert raised.value.exit_code == code
    assert capsys.readouterr().err == f"condery: {error}\n"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("numpy", ("root/numpy", "latest")),
        ("numpy/scipy:2026-01-31", ("root/numpy/scipy", "2026-01-31")),
        ("root/numpy:latest", ("root/numpy", "latest")),
        ("localhost:5000/root/numpy:lock-0123456789ab", ("root/numpy", "lock-0123456789ab")),
        ("localhost/root/numpy", ("root/numpy", "latest")),
    ],
)
def test_images_are_named_as_people_copy_them(image: str, expected: tuple[str, str]) -> None:
    assert _repository_and_tag(image, "root") == expected


def test_plain_progress_has_a_line_when_a_stage_begins_and_when_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    lines = PlainLines(Console(force_terminal=False))
    for done in range(3):
        lines(Event("layers", done, 2, "numpy"))
    lines(Event("image", 1, 1))
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "layers ..."
    assert second.startswith("layers done: 2 of 2 layers in ")
    assert third.startswith("image done: 1 of 1 in ")


@pytest.fixture(scope="module")
def flags(sample_channel: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One store over the sample channel, for all of the tests below."""
    data = tmp_path_factory.mktemp("cli") / "data"
    return ["--data-dir", str(data), "--channel", sample_channel.as_uri(), "--base", "scratch"]


def test_lock_writes_each_format(condery: Run, flags: list[str], tmp_path: Path) -> None:
    done = condery("lock", "tzdata", *flags)
    assert done.exit_code == 0, done.stderr
    assert "version: 1" in done.stdout
    assert "environments:\n  default:\n" in condery("lock", "tzdata", "--format", "pixi", *flags).stdout
    assert condery("lock", "tzdata", "--format", "explicit", *flags).stdout.count("@EXPLICIT") == 1
    assert condery("lock", "tzdata", "--format", "yaml", "--output", tmp_path / "e.yaml", *flags).stdout == ""
    assert "- tzdata=" in (tmp_path / "e.yaml").read_text()


@pytest.mark.parametrize("command", ["lock", "build", "explain"])
@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("tzdatta", "no package tzdatta for linux-64 in {}; did you mean tzdata?"),
        ("tzdata.eq.1", "cannot be solved for linux-64: no tzdata ==1 in {}; available: "),
    ],
)
def test_what_cannot_be_is_told_with_what_was_meant(
    condery: Run, flags: list[str], command: str, item: str, reason: str
) -> None:
    """In the words of a pull, whichever command is asked."""
    done = condery(command, item, *flags)
    assert done.exit_code == 1
    channel = flags[flags.index("--channel") + 1]
    before = f"{item}: this has not been built here yet, and no build can succeed: "
    told = done.stderr.splitlines()[-1]
    assert (told.count("linux-64"), told.count(channel)) == (1, 1)
    assert told.startswith(f"condery: {before if command == 'explain' else ''}{reason.format(channel)}")
    assert done.stdout == ""


def test_explain_tells_why_the_last_build_failed(condery: Run, flags: list[str], tmp_path: Path) -> None:
    """Where only the build has found out: the environment can be solved."""
    data = tmp_path / "data"
    data.mkdir(0o700)
    asyncio.run(_fail(sqlite_url(data / "condery.sqlite"), flags))
    done = condery("explain", "tzdata", *flags, "--data-dir", data)
    assert done.exit_code == 1
    assert done.stderr.endswith(" for linux-64; the last build failed: the disk is made of cheese (build b1)\n")
    # nothing was recorded by asking
    assert condery("explain", "tzdata", *flags, "--data-dir", data).stderr == done.stderr
    locked = condery("lock", "tzdata", *flags, "--data-dir", data)
    assert locked.exit_code == 0
    done = condery("explain", "tzdata", *flags, "--data-dir", data)
    assert done.exit_code == 1
    assert done.stderr.endswith("was finished; the last build failed: the disk is made of cheese (build b1)\n")


async def _fail(url: str, flags: list[str]) -> None:
    """Record a build of tzdata that failed."""
    migrate(url)
    database = Database.open(url)
    settings = BuilderSettings(channels=(flags[flags.index("--channel") + 1],), base="scratch")
    key = Job("image", parse_specs(["tzdata"], settings), settings=make_settings_key(settings)).key
    builds = Builds(database)
    assert await builds.begin("b1", key, {}, "")
    assert await builds.fail("b1", kind="PackageInvalid", message="the disk is made of cheese")
    await database.close()


def test_build_writes_an_archive_and_a_layout_and_explain_knows_the_image(
    condery: Run, flags: list[str], tmp_path: Path
) -> None:
    done = condery("build", "tzdata", "--json", "--output", tmp_path / "image.tar", *flags)
    assert done.exit_code == 0, done.stderr
    built = json.loads(done.stdout)
    with tarfile.open(tmp_path / "image.tar") as archive:
        assert {"manifest.json", "index.json"} <= set(archive.getnames())

    done = condery("build", "tzdata", "--output", tmp_path / "layout", *flags)
    assert done.stdout == f"{built['reference']}@{built['digest']}\n"
    index = json.loads((tmp_path / "layout/index.json").read_text())
    assert [entry["digest"] for entry in index["manifests"]] == [built["digest"]]

    shown = json.loads(condery("explain", "tzdata", "--json", *flags).stdout)
    variants = [variant["digest"] for variant in shown["image"]["variants"]]
    assert variants[0] == built["digest"]
    reports = [
        json.loads(condery("explain", image, "--json", *flags).stdout)
        for image in (built["reference"], built["lock"], *variants)
    ]
    assert reports == [shown] * 5
    assert list(reports[0]["report"]["seconds"]) == ["solve", "download", "inspect", "layers", "image"]
    [layer, own] = reports[0]["report"]["platforms"]["linux-64"]["layers"]
    assert [package["name"].partition("-")[0] for package in layer["packages"]] == ["tzdata"]
    assert own["packages"] == []
    shown = condery("explain", "tzdata", *flags).stdout
    assert "tzdata" in shown
    assert "made in" in shown
    channel = flags[flags.index("--channel") + 1]
    assert reports[0]["channels"] == [channel]
    assert channel in "".join(shown.split())


def test_explain_takes_no_lock_of_another_name(condery: Run, flags: list[str]) -> None:
    built = json.loads(condery("build", "tzdata", "--json", *flags).stdout)
    for image in (f"tzdata:lock-{built['lock']}", f"lock-{built['lock']}"):
        assert json.loads(condery("explain", image, "--json", *flags).stdout)["lock"] == built["lock"]
    done = condery("explain", f"numpy:lock-{built['lock'][:12]}", *flags)
    assert done.exit_code == 1
    assert "this lock was made for other packages, channels or platforms" in done.stderr


def test_build_pushes_to_another_registry(condery: Run, flags: list[str], start_server: StartServer) -> None:
    other = start_server("--base", "scratch", "--workers", "1", "--channels", "file:///nowhere")
    done = condery("build", "tzdata", "--json", "--push", f"{other.address}/team/tz:v1", *flags)
    assert done.exit_code == 0, done.stderr
    with urllib.request.urlopen(f"{other.url}/v2/team/tz/manifests/v1") as answer:
        digest = answer.headers["Docker-Content-Digest"]
    assert json.loads(done.stdout)["digest"] == digest
    assert json.loads(done.stdout)["pushed"] == f"{other.address}/team/tz:v1@{digest}"
    done = condery("build", "tzdata", "--push", f"{other.address}/team/tz", *flags)
    assert done.stdout == f"{other.address}/team/tz:latest@{digest}\n"
    assert other.stop() == 0
    done = condery("explain", f"{other.address}/team/tz:v1", "--data-dir", str(other.data_dir))
    assert done.exit_code == 1
    assert "team/tz holds what was pushed to it" in done.stderr
    done = condery("build", "tzdata", "--push", f"{other.address}/team/tz:v1", *flags)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith(f"condery: cannot publish to {other.address}/team/tz:v1: ")


def test_every_section_is_known() -> None:
    assert {setting.section for setting in all_settings()} == set(SECTIONS)
