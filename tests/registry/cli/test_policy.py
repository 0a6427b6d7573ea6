"""`condery policy`, and the commands of docs/policy.md."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.registry.cli.conftest import Run

PAGE = Path(__file__).parents[3] / "docs" / "policy.md"


@pytest.fixture
def flags(sample_channel: Path, tmp_path: Path) -> list[str]:
    """A store over the sample channel, and the rules of the page's example."""
    (tmp_path / "data").mkdir()
    return ["--data-dir", "data", "--channel", sample_channel.as_uri(), "--base", "scratch"]


def versions_of(condery: Run, flags: list[str], name: str) -> list[str]:
    done = condery("policy", "check", name, *flags)
    return re.findall(rf"^    ({name}-\S+)", done.stdout, re.MULTILINE)


def test_commands_of_the_page(condery: Run, flags: list[str], tmp_path: Path) -> None:
    commands = re.findall(r"^    (condery policy .*?)(?: +#.*)?$", PAGE.read_text(), re.MULTILINE)
    assert [shlex.split(each)[2] for each in commands] == ["set", "show", "check"]
    [document] = re.findall(r"policy\.json:\n\n((?:    .*\n)+)", PAGE.read_text())
    (tmp_path / "policy.json").write_text(document)
    outputs = []
    for command in commands:
        done = condery(*shlex.split(command)[1:], *(flags if "check" in command else flags[:2]))
        assert done.exit_code == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == "set the policy of namespace conda-store-dynamic\n"
    assert "the policy of namespace conda-store-dynamic:" in outputs[1]
    for name in json.loads(document):
        assert f"    {name}: " in outputs[1]
    assert "allowed for linux-64:" in outputs[2]


def test_what_is_denied_is_told_with_the_rule(condery: Run, flags: list[str], tmp_path: Path) -> None:
    [version] = versions_of(condery, flags, "tzdata")
    (tmp_path / "policy.json").write_text(json.dumps({"denied_packages": ["tzdata # CVE-1"], "no_delete": True}))
    done = condery("policy", "set", "conda-store-dynamic", "policy.json", *flags[:2])
    assert done.exit_code == 0, done.stderr
    for command in (("policy", "check"), ("lock",), ("build",)):
        done = condery(*command, "tzdata", *flags)
        assert done.exit_code == 1
        assert done.stderr.splitlines()[-1] == (
            "condery: tzdata is denied by the policy of namespace conda-store-dynamic (denied_packages): tzdata: "
            "CVE-1; ask for another package, or ask the administrator"
        )
    shown = json.loads(condery("policy", "show", "--json", *flags[:2]).stdout)
    assert shown == {
        "the policy of namespace conda-store-dynamic": {"denied_packages": ["tzdata # CVE-1"], "no_delete": True}
    }
    done = condery("policy", "set", "conda-store-dynamic", "-", *flags[:2], stdin="{}")
    assert done.exit_code == 0, done.stderr
    assert versions_of(condery, flags, "tzdata") == [version]
    done = condery("policy", "check", "tzdata", "--denied-licenses", "*", *flags)
    assert done.exit_code == 1
    assert "by the setting denied_licenses" in done.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "policy.json: "),
        ('{"cooldown": 7}', "'cooldown' is no rule; the rules are"),
        ('{"denied_packages": ["x <<1"]}', "policy.json: denied_packages: "),
        ('{"immutable_tags": ["v1"]}', "REPOSITORY:TAG"),
    ],
)
def test_a_document_that_makes_no_sense_is_not_set(
    condery: Run, flags: list[str], tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "policy.json").write_text(text)
    done = condery("policy", "set", "conda-store-dynamic", "policy.json", *flags[:2])
    assert done.exit_code == 2
    assert reason in done.stderr
    assert condery("policy", "show", *flags[:2]).stdout == "there are no rules\n"


def test_a_namespace_has_to_be_there(condery: Run, flags: list[str], tmp_path: Path) -> None:
    done = condery("policy", "set", "team", "-", *flags[:2], stdin='{"no_delete": true}')
    assert done.exit_code == 1
    assert "there is no namespace team; create it with: condery namespace create team" in done.stderr
    assert condery("namespace", "create", "team", *flags[:2]).exit_code == 0
    assert condery("policy", "set", "team", "-", *flags[:2], stdin='{"no_delete": true}').exit_code == 0
    shown = condery("policy", "show", "team", *flags[:2]).stdout
    assert shown == "the policy of namespace team:\n    no_delete: True\n"
    events = json.loads(condery("audit", "--json", *flags[:2]).stdout)
    (event,) = [each for each in events["events"] if each["action"] == "policy.set"]
    assert event["entity"] == "team"
    assert json.loads(event["detail"]["policy"]) == {"no_delete": True}


def test_a_pattern_with_the_namespace_in_it_is_pointed_out(condery: Run, flags: list[str]) -> None:
    assert condery("namespace", "create", "team", *flags[:2]).exit_code == 0
    done = condery("policy", "set", "team", "-", *flags[:2], stdin='{"immutable_tags": ["team/*:v*", "*:v*"]}')
    assert done.exit_code == 0
    assert done.stderr.splitlines()[-1].startswith("note: team/*:v* is about team/team/*:v*;")
    assert "note: *:v*" not in done.stderr
    cleared = condery("policy", "set", "team", "-", *flags[:2], stdin="{}")
    assert cleared.stdout == "set the policy of namespace team: it has no rules now\n"
