"""Webhooks as they are written: what each wants, what a mistake is told, and what is shown of an address."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from registry.cli.app import app
from registry.settings.loading import InvalidSettings, load
from registry.settings.model import format_value
from registry.webhooks.webhook import ACTIONS, Action, Webhook, hide_path, parse_webhooks

SECRET_PATH = "https://hooks.example.org/T0/B0/hunter2"


@pytest.mark.parametrize(
    ("line", "action", "repository", "wanted"),
    [
        ("https://h", "push", "a/b", True),
        ("https://h", "build", "a", True),
        ("https://h actions=push,delete", "push", "a", True),
        ("https://h actions=push,delete", "pull", "a", False),
        ("https://h repositories=team/*", "push", "team/a/b", True),
        ("https://h repositories=team/*", "push", "team", False),
        ("https://h repositories=team/*", "push", "other/team/a", False),
        ("https://h repositories=a,*/b", "push", "x/b", True),
        ("https://h repositories=a.b", "push", "a-b", False),
        ("https://h repositories=team/* actions=push", "push", "team/a", True),
        ("https://h repositories=team/* actions=push", "delete", "team/a", False),
    ],
)
def test_what_is_wanted(line: str, action: Action, repository: str, wanted: bool) -> None:
    [webhook] = parse_webhooks([line])
    assert webhook.wants(action, repository) is wanted


def test_lines_of_one_address_are_one_webhook() -> None:
    first, second = parse_webhooks(["https://h/x actions=push", "https://o", "https://h/x actions=delete"])
    assert {action for action in ACTIONS if first.wants(action, "a")} == {"push", "delete"}
    assert second.url == "https://o"
    assert first.key != second.key
    assert first.key == Webhook.parse("https://h/x repositories=b").key


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("h/hunter2", "webhook 1: must begin with an address such as https://host/path"),
        ("ftp://h/hunter2", "must begin with an address"),
        ("https://user:hunter2@h/", "without a user or a fragment"),
        ("https://h/hunter2#part", "without a user or a fragment"),
        ("https://h:99999/hunter2", "must begin with an address"),
        ("https:///hunter2", "must begin with an address"),
        ("https://h/hunter2 actions=", "'actions=' is neither actions=... nor repositories=..."),
        ("https://h/hunter2 action=push", "'action=push' is neither"),
        ("https://h/hunter2 actions=push actions=pull", "may each be given once"),
        ("https://h/hunter2 actions=pushed", "'pushed' is not one of the actions push, mount, pull, delete, build"),
        ("https://h/hunter2 repositories=Team/*", "'Team/*' is not the name of a repository"),
        ("https://ok, https://h/hunter2 what", "webhook 2: 'what' is neither"),
    ],
)
def test_mistakes_are_told_without_the_address(line: str, message: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load({"webhooks": line})
    assert message in str(caught.value)
    assert str(caught.value).startswith("--webhooks: ")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tls_key": "key.pem"}, "tls_certificate and tls_key go together: set both or none"),
        ({"trusted_proxies": "10.0.0.1/8"}, "--trusted-proxies: '10.0.0.1/8' has bits beyond its prefix"),
        ({"trusted_proxies": "::1, proxy"}, "'proxy' is neither an address nor a network such as 10.0.0.0/8"),
        ({"proxy_headers": "x-real-ip"}, "--proxy-headers: must be 'x-forwarded' or 'forwarded'"),
        ({"public_url": "registry.example.org"}, "must be an address such as https://registry.example.org"),
        ({"public_url": "https://host/path"}, "without a path"),
    ],
)
def test_mistakes_in_settings_beside(settings: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load(settings)
    assert message in str(caught.value)


LINE = "https://h/a,b?c=d,e actions=push,delete repositories=x,y/*"


@pytest.mark.parametrize("value", [f"{LINE},https://o", [LINE, "https://o"], [f"{LINE} , https://o"]])
def test_commas_within_a_line_do_not_split_it(value: object) -> None:
    settings = load({"webhooks": value}).settings
    assert settings.webhook.webhooks == (LINE, "https://o")
    assert load({"webhooks": format_value(settings.webhook.webhooks)}).settings.webhook.webhooks == (LINE, "https://o")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (SECRET_PATH, "https://hooks.example.org/***"),
        (f"{SECRET_PATH} actions=push", "https://hooks.example.org/*** actions=push"),
        ("https://h:8/?token=hunter2", "https://h:8/***"),
        ("https://h?hunter2", "https://h/***"),
        ("https://h", "https://h"),
    ],
)
def test_an_address_is_shown_without_what_may_be_a_secret(line: str, text: str) -> None:
    assert hide_path(line) == text
    assert Webhook.parse(line).address == text.split()[0]


def test_settings_show_hides_it() -> None:
    lines = [f"--webhooks={SECRET_PATH} actions=push,delete", "--webhooks=https://h/hunter2"]
    output = CliRunner().invoke(app, ["settings", "show", *lines]).output
    # as JSON, since one of them has a comma
    shown = '["https://hooks.example.org/*** actions=push,delete","https://h/***"]'
    assert f"webhooks = {shown}  (--webhooks)" in output
    assert "hunter2" not in output
