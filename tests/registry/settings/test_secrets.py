"""Secrets in settings: marked at their field, used as they are, never shown."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import pytest
import structlog
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from registry.cli.app import app
from registry.logs.lines import configure
from registry.logs.settings import LogSettings
from registry.settings.loading import InvalidSettings, load, variables_of
from registry.settings.model import SECTIONS, Settings, all_settings
from storage.section import Secret, Section

LOOKS_SECRET = re.compile("secret|passw|token|credential|key|auth|signature|private")
SECRETS = {
    "database": "postgresql://condery:hunter2@db.example.org/condery",
    "webhooks": "https://ci.example.org/hooks/hunter2",
    "vault_keys": "condery_vault_hunter2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaA",
}
"""For each setting that is marked, a value that holds a secret."""

ADDRESSES = {
    "channels": "https://conda.example.org/t/hunter2/science",
    "channel_alias": "https://condery:hunter2@conda.example.org",
}
"""Of others, which are not marked: addresses show no credentials anywhere."""

BOTH = SECRETS | ADDRESSES


class Careless(Section):
    api_token: str | None = None
    key_file: Path | None = None
    password: Annotated[str, Secret()] = ""
    passwords: tuple[str, ...] = ()


def find_unmarked(sections: Iterable[type[Section]]) -> list[str]:
    """Fields whose names say that they hold a secret, and which are not marked; a file's name is no secret."""
    fields = [item for section in sections for item in section.model_fields.items()]
    return [name for name, field in fields if LOOKS_SECRET.search(name) and holds_text(field) and not Secret.of(field)]


def holds_text(field: FieldInfo) -> bool:
    return "str" in re.findall(r"\w+", str(field.annotation))


def test_what_is_called_a_secret_is_marked() -> None:
    assert find_unmarked([Careless]) == ["api_token", "passwords"]
    assert find_unmarked(SECTIONS.values()) == []


def test_these_are_marked() -> None:
    assert {setting.name for setting in all_settings() if setting.is_secret} == SECRETS.keys()


def test_a_mark_without_more_hides_everything() -> None:
    careless = Careless(password="hunter2", passwords=("https://condery:hunter2@example.org",))
    assert careless.password == "hunter2"
    assert repr(careless) == (
        "Careless(api_token=None, key_file=None, password='***', passwords=('https://***@example.org',))"
    )


def secret_settings() -> Settings:
    settings = load(BOTH).settings
    assert str(variables_of(settings)).count("hunter2") == len(BOTH), "they are there for those who use them"
    return settings


def test_repr_shows_no_secret() -> None:
    settings = secret_settings()
    for shown in (
        repr(settings),
        str(settings),
        repr(load(BOTH)),
        f"{settings.storage} {settings.builder}",
    ):
        assert "hunter2" not in shown
        assert "example.org" in shown


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_the_command_shows_no_secret(form: tuple[str, ...]) -> None:
    environment = {f"CONDERY_{name.upper()}": value for name, value in BOTH.items()}
    output = CliRunner(env=environment).invoke(app, ["settings", "show", *form]).output
    assert "https://ci.example.org/***" in output
    assert "postgresql://***@db.example.org/condery" in output
    assert "hunter2" not in output


@pytest.mark.usefixtures("restored_logs")
@pytest.mark.parametrize("form", ["json", "console"])
def test_logs_show_no_secret(form: str) -> None:
    stream = io.StringIO()
    configure(LogSettings.model_validate({"log_format": form}), stream)
    settings = secret_settings()
    structlog.get_logger().info("started", settings=settings, sections=[settings.storage, settings.builder])
    assert "db.example.org" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize("name", SECRETS)
def test_a_mistake_is_reported_without_the_value(name: str) -> None:
    with pytest.raises(InvalidSettings, match=f"^--{name.replace('_', '-')}: ") as caught:
        load({name: {"hunter2": "hunter2"}})
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__}"


def test_a_mistake_in_another_setting_is_reported_with_the_value() -> None:
    with pytest.raises(InvalidSettings, match=r"^--port: .*, not 'hunter2'$"):
        load({"port": "hunter2"})


@pytest.mark.parametrize("name", [each.name for each in all_settings() if each.kind in ("text", "list")])
def test_an_address_with_a_password_is_shown_nowhere(name: str) -> None:
    """Whatever setting it is given to: it is refused or taken, and shown without."""
    address = "https://condery:hunter2@example.org/t/hunter2/x"
    done = CliRunner(env={f"CONDERY_{name.upper()}": address}).invoke(app, ["settings", "show"])
    assert f"{name} = " in done.output or f"CONDERY_{name.upper()}: " in done.output
    assert "hunter2" not in done.output
    try:
        settings = load({name: address}).settings
    except InvalidSettings:
        return
    assert "hunter2" not in repr(settings)
