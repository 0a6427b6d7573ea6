"""Settings: where values come from, what wins, what a mistake is told, and that the documents know every setting."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from registry.settings import variables
from registry.settings.loading import InvalidSettings, LoadedSettings, load, variables_of
from registry.settings.model import SECTIONS, Setting, all_settings, format_value, split
from storage.section import kinds_of
from storage.text import redact

DOCUMENT = Path(__file__).parents[3] / "docs" / "settings.md"
EXAMPLE = Path(__file__).parents[3] / "examples" / "condery.toml"


def loaded_from(text: str, directory: Path, **flags: object) -> LoadedSettings:
    path = directory / "given.toml"
    path.write_text(text)
    return load(flags, path)


def test_flags_win_over_variables_over_the_file_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "port = 1\nhost = 'file'\nroot = 'file'\n"
    monkeypatch.setenv("CONDERY_PORT", "2")
    monkeypatch.setenv("CONDERY_HOST", "variable")
    loaded = loaded_from(text, tmp_path, port="3")
    assert (loaded.settings.http.port, loaded.settings.http.host, loaded.settings.builder.root) == (
        3,
        "variable",
        "file",
    )
    assert loaded.settings.builder.base == "host"
    assert loaded.origins == {
        "port": "--port",
        "host": "CONDERY_HOST",
        "root": f"{tmp_path / 'given.toml'}: root",
    }


@pytest.mark.parametrize("text", ["a,b", " a , b ,", '["a", "b"]'])
def test_lists_are_comma_separated_or_json(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDERY_CHANNELS", text)
    assert load().settings.builder.channels == ("a", "b")
    monkeypatch.delenv("CONDERY_CHANNELS")
    assert load({"channels": text}).settings.builder.channels == ("a", "b")


RULES = ("openssl >=3,<3.0.7 # CVE-1, CVE-2", "left-pad")


def test_an_entry_of_an_array_may_hold_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = loaded_from(f"denied_packages = {json.dumps(RULES)}", tmp_path)
    assert loaded.settings.policy.denied_packages == RULES
    for name, value in variables_of(loaded.settings).items():
        monkeypatch.setenv(name, value)
    assert load().settings.policy.denied_packages == RULES


def test_a_repeated_list_flag_adds_up() -> None:
    assert load({"channels": ["a,b", "c"]}).settings.builder.channels == ("a", "b", "c")
    assert load({"channels": []}).settings.builder.channels == ("conda-forge",)


def test_the_file_is_found_in_the_working_directory_or_by_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "condery.toml").write_text("port = 1234")
    assert load().settings.http.port == 1234
    (tmp_path / "other.toml").write_text("port = 4321")
    monkeypatch.setenv("CONDERY_CONFIG", str(tmp_path / "other.toml"))
    assert load().settings.http.port == 4321


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chanels = ['x']", r"chanels is not a setting; did you mean channels\?"),
        ("prot = 80", r"prot is not a setting; did you mean port\?$"),
        ("qqqq = 1", r"qqqq is not a setting; `condery settings show` lists them all"),
        ("[server]\nport = 1", r"given.toml: \[server\] begins a table, and settings are in none: remove it"),
        ("port = 'x'", r"given.toml: port: must be a whole number, not 'x'"),
        ("port = 1.5", r"given.toml: port: must be a whole number, not 1.5"),
        ("port = true", r"given.toml: port: must be a whole number, not true$"),
        ("fresh_for = false", r"given.toml: fresh_for: must be a number of seconds, not false$"),
        ("read_only = 1", r"given.toml: read_only: must be true or false, not 1$"),
        ("glibc = 2.28", r"given.toml: glibc: must be text, in quotes, not 2.28$"),
        ("gc_interval = '1h'", r"given.toml: gc_interval: must be a number of seconds, not '1h'"),
        ("cooldown_days = '7d'", r"given.toml: cooldown_days: must be a number of days, not '7d'"),
        ("solve_seconds = '2m'", r"given.toml: solve_seconds: must be a number of seconds, not '2m'"),
        ("token_seconds = '5m'", r"given.toml: token_seconds: must be a whole number of seconds, not '5m'"),
        ("requests_per_second = 'x'", r"given.toml: requests_per_second: must be a number, not 'x'"),
        ("worker_memory = '1g5'", r"given.toml: worker_memory: '1g5' is not a size: write 500MB, 10GiB, or a number"),
        ("worker_memory = true", r"given.toml: worker_memory: must be a size such as .*, not true"),
        ("read_only = 'maybe'", r"given.toml: read_only: must be true or false, not 'maybe'"),
        ("data_directory = 3", r"given.toml: data_directory: must be a path, not 3"),
        ("port = 70000", r"given.toml: port: must be less than"),
        (
            "channels = ['./nothere']",
            r"channels: './nothere': it is neither .*; a directory is given by its whole path$",
        ),
        ("channels = './nothere'", r"given.toml: channels: './nothere': it is neither a channel name nor an address"),
        ("channels = ['ftp://me:secret@x']", r"given.toml: channels: 'ftp://\*\*\*@x': its scheme is not one of"),
        ("channels = 3", r"given.toml: channels: must be a list, not 3"),
        ("log_level = 'loud'", r"log_level: must be 'debug', 'info', 'warning' or 'error', not 'loud'"),
        ("proxy_user_header = 'X-User'", r"proxy_user_header: set trusted_proxies to the addresses of the proxy"),
        ("oidc_issuer = 'https://a.example'", r"oidc_issuer and oidc_client_id go together"),
        ("oidc_issuer = 'https://a.example'\noidc_client_id = 'x'", r"oidc_issuer: set public_url"),
        ("oidc_issuer = 'a.example'\noidc_client_id = 'x'", r"oidc_issuer: 'a.example' is not the address"),
        ("workload_issuers = ['https://a.example']", r"workload_audience: set it to what workloads ask"),
        ("workload_rules = ['sub = 1 -> viewer on a/*']", r"given.toml: workload_rules: rule .*, character 5: '='"),
        ("port = \n", r"given.toml: Invalid value .at line 1"),
    ],
)
def test_mistakes_in_the_file(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=message):
        loaded_from(text, tmp_path)


def test_no_setting_takes_a_value_of_another_kind() -> None:
    wrong = {
        "number": ("true", "false", "inf", "nan", "[1]", "{}", "''", "'x'"),
        "size": ("true", "false", "1.5", "inf", "[1]", "{}", "''", "'1x'", "-1"),
        "true|false": ("0", "1", "1.0", "[true]", "{}", "''", "'x'"),
        "path": ("true", "1", "1.5", "[]", "{}"),
        "list": ("true", "1", "1.5", "[true]", "[1]", "[[]]", "{}"),
    }
    others = ("true", "1", "1.5", "[]", "{}")
    pairs = [(each, text) for each in all_settings() for text in wrong.get(each.kind, others)]
    assert [(setting.name, text) for setting, text in pairs if not _is_refused(setting, text)] == []


def _is_refused(setting: Setting, text: str) -> bool:
    """Whether its part of the settings refuses a value of TOML."""
    needed = {"data_directory": "/somewhere"} if setting.section == "storage" else {}
    try:
        SECTIONS[setting.section].model_validate(needed | tomllib.loads(f"{setting.name} = {text}"))
    except ValidationError as error:
        return {problem["loc"][0] for problem in error.errors()} == {setting.name}
    return False


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("immutable_tags = ['team']", "'team'"),
        ("quotas = ['team/* bytes=x']", "'x'"),
        ("images_limit = 'much'", "'much'"),
        ("glibc = 'new'", "'new'"),
        ("port = 'http'", "'http'"),
    ],
)
def test_a_wrong_value_is_quoted_once(text: str, quoted: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings) as caught:
        loaded_from(text, tmp_path)
    assert str(caught.value).count(quoted) == 1


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://condery:hunter/2@host/db",
        "postgresql://condery:hunter@2@host/db",
        "postgresql://host/db?user=condery&password=hunter2",
        'postgresql://condery:hun"ter2@host/db',
        "mysql://condery:hunter2@host/db",
        "hunter2",
    ],
)
def test_a_database_that_is_refused_is_not_repeated(url: str) -> None:
    with pytest.raises(InvalidSettings, match="--database: must be postgresql://USER:PASSWORD@HOST/NAME") as caught:
        load({"database": url})
    assert "hunt" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://condery:hunter%2F2@host:5432/db?sslmode=require",
        "postgresql+psycopg://condery:hunter2@[::1]/db",
        "postgresql:///db?host=/run/postgresql",
        "sqlite:////var/lib/condery/x.sqlite",
    ],
)
def test_the_password_of_a_database_is_never_shown(url: str) -> None:
    assert load({"database": url}).settings.storage.database == url
    assert "hunter" not in redact(url)


@pytest.mark.parametrize("address", ["s3.example.org", "https://key:secret@host", "https://host/?x=y", "ftp://host"])
def test_an_endpoint_is_a_plain_address(address: str) -> None:
    with pytest.raises(InvalidSettings, match="must be an address such as https"):
        load({"s3_endpoint": address})


def test_a_missing_file_that_was_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"none\.toml: No such file"):
        load(config=tmp_path / "none.toml")


def test_a_misspelt_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDERY_CHANNEL", "x")
    with pytest.raises(InvalidSettings, match=r"CONDERY_CHANNEL is not a setting; did you mean CONDERY_CHANNELS\?"):
        load()
    monkeypatch.delenv("CONDERY_CHANNEL")
    monkeypatch.setenv("CONDERY_PROT", "80")
    with pytest.raises(InvalidSettings, match=r"CONDERY_PROT is not a setting; did you mean CONDERY_PORT\?"):
        load()


def test_what_kubernetes_says_of_a_service_called_condery_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDERY_PORT", "tcp://10.0.0.1:5000")
    monkeypatch.setenv("CONDERY_PORT_5000_TCP_ADDR", "10.0.0.1")
    monkeypatch.setenv("CONDERY_SERVICE_HOST", "10.0.0.1")
    assert load().settings.http.port == 5000


def test_flat_names_are_unambiguous() -> None:
    counts = Counter(setting.name for setting in all_settings())
    assert [name for name, count in counts.items() if count > 1] == []


def test_every_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in all_settings():
        default = setting.field.default
        value = default if isinstance(default, str | int | float) else "x=y"
        monkeypatch.setenv(setting.variable, format_value(value))
    assert variables.read_variables().keys() == {setting.name for setting in all_settings()}


def test_every_setting_has_a_description() -> None:
    assert [setting.name for setting in all_settings() if not setting.description] == []


def test_every_description_is_written_as_a_sentence() -> None:
    assert [setting.name for setting in all_settings() if not setting.description[0].isupper()] == []


def test_the_document_tells_every_setting_as_it_is() -> None:
    rows = {
        match["name"]: (match["kind"], match["default"], match["text"])
        for match in re.finditer(
            r"^\| `(?P<name>\w+)` \| (?P<kind>.*?) \| (?P<default>.*?) \| (?P<text>.*) \|$",
            DOCUMENT.read_text(),
            re.MULTILINE,
        )
    }
    expected = {
        setting.name: (
            setting.kind.replace("|", ", "),
            f"`{setting.default}`" if setting.default else "",
            setting.description,
        )
        for setting in all_settings()
    }
    assert rows == expected, "run `make docs`"


def test_the_example_file_shows_every_setting_and_is_read(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    assert re.findall(r"^#? ?(\w+) = ", text, re.MULTILINE) == [setting.name for setting in all_settings()]
    uncommented = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert set(loaded_from(uncommented, tmp_path).origins) == {setting.name for setting in all_settings()}


def test_split_and_written_agree() -> None:
    assert split(format_value(("a", "b"))) == ["a", "b"]
    assert (format_value(None), format_value(True), format_value(3.5)) == ("", "true", "3.5")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("workers", "0", "must be 1 or more"),
        ("downloads", "0", "must be 1 or more"),
        ("builds_at_most", "-1", "must be 1 or more"),
        ("fresh_for", "-5", "must be 0 or more"),
        ("fresh_for", "nan", "finite"),
        ("user", "-1", "must be 0 or more"),
        ("glibc", "abc", "must be a version"),
        ("root", "Bad!", "one part of a repository name"),
        ("root", "team/", "one part of a repository name"),
        ("root", "mirror", "not mirror"),
    ],
)
def test_settings_of_builds_that_make_no_sense_are_refused(name: str, value: str, reason: str) -> None:
    with pytest.raises(InvalidSettings, match=reason):
        load({name: value}, None)


def test_every_time_says_its_unit_and_every_size_takes_one(tmp_path: Path) -> None:
    numbers = [setting for setting in all_settings() if setting.kind == "number"]
    assert {each.name for each in numbers if each.unit is None and float in kinds_of(each.field)} == {
        "requests_per_second",
        "anonymous_requests_per_second",
        "max_ratio",
    }
    said = [("_days", "days"), ("_hours", "hours"), ("_minutes", "minutes"), ("_seconds", "seconds")]
    assert all(each.unit == unit for each in numbers for end, unit in said if each.name.endswith(end))
    in_bytes = re.compile(r"Maximum (total )?(size|memory)|Bytes")
    sizes = {each.name for each in all_settings() if in_bytes.match(each.description)}
    assert sizes == {each.name for each in all_settings() if each.kind == "size"}
    given = loaded_from("\n".join(f"{name} = '2GiB'" for name in sizes), tmp_path)
    assert {given.value(each) for each in all_settings() if each.name in sizes} == {2 << 30}
