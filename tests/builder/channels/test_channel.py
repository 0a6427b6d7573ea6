from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from builder.channels.channel import Credential, Credentials, resolve_address, strip_credentials
from builder.channels.logins import Logins
from builder.errors import ChannelUnavailable, LoginsFileUnusable
from storage.catalog.credential import NamespaceCredential

ALIAS = "https://conda.anaconda.org"


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ("conda-forge", "https://conda.anaconda.org/conda-forge/"),
        ("conda-forge/label/rc", "https://conda.anaconda.org/conda-forge/label/rc/"),
        ("https://repo.example/team", "https://repo.example/team/"),
        ("file:///srv/channel/", "file:///srv/channel/"),
        ("/srv/my channel", "file:///srv/my%20channel/"),
        ("oci://ghcr.io/channel-mirrors/conda-forge", "oci://ghcr.io/channel-mirrors/conda-forge/"),
        ("oci://GHCR.io/channel", "oci://GHCR.io/channel/"),
        ("oci://[::1]/channel", "oci://[::1]/channel/"),
        ("https://repo.example:8443/team", "https://repo.example:8443/team/"),
        ("file:///home/t/channel", "file:///home/t/channel/"),
    ],
)
def test_address(channel: str, expected: str) -> None:
    assert resolve_address(channel, ALIAS) == expected


@pytest.mark.parametrize(
    ("channel", "reason"),
    [
        ("ftp://example.org/channel", "scheme"),
        ("https:///channel", "no host"),
        ("../channel", "neither"),
        ("a b", "neither"),
        ("oci://ghcr.io:5000/channel", "leave the port out"),
        ("oci://[::1]:5000/channel", "leave the port out"),
        ("oci://ghcr.io:/channel", "leave the port out"),
        ("https://user:secret@example.org/channel", "credentials file"),
        ("oci://user:secret@example.org/channel", "credentials file"),
        ("https://example.org/t/secret/channel", "credentials file"),
    ],
)
def test_refused_address(channel: str, reason: str) -> None:
    with pytest.raises(ChannelUnavailable, match=reason) as caught:
        resolve_address(channel, ALIAS)
    assert "secret" not in str(caught.value)


def test_addresses_lose_their_credentials() -> None:
    assert strip_credentials("https://u:p@h.org:8080/t/tk-12/c/noarch/x-1-0.conda?q=1") == (
        "https://h.org:8080/c/noarch/x-1-0.conda?q=1"
    )


def test_credentials_are_found_by_host_then_by_domain() -> None:
    exact, domain = Credential("BearerToken", "one"), Credential("BearerToken", "two")
    credentials = Credentials({"repo.example.org": exact, "*.example.org": domain})
    assert credentials.for_url("https://repo.example.org:8443/c") is exact
    assert credentials.for_url("https://a.b.example.org/c") is domain
    assert credentials.for_url("https://example.org/c") is domain
    assert credentials.for_url("https://badexample.org/c") is None
    assert credentials.for_url("file:///c") is None


@pytest.mark.parametrize(
    ("entry", "url", "headers"),
    [
        (
            {"BasicHTTP": {"username": "u", "password": "p"}},
            "https://h.org/c/x.conda",
            {"Authorization": "Basic dTpw"},
        ),
        ({"BearerToken": "b"}, "https://h.org/c/x.conda", {"Authorization": "Bearer b"}),
        ({"CondaToken": "tk"}, "https://h.org/t/tk/c/x.conda", {}),
    ],
)
def test_kinds_of_credentials(tmp_path: Path, entry: object, url: str, headers: dict[str, str]) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"h.org": entry}))
    credential = Credentials.read(path).for_url("https://h.org/c/x.conda")
    assert credential is not None
    assert credential.authorize("https://h.org/c/x.conda") == (url, headers)
    assert credential.authorize(url)[0] == url, "a token that is there is not put there twice"


def test_no_secret_in_texts() -> None:
    credentials = Credentials({"h.org": Credential("BasicHTTP", "s3cr/t", "u")})
    assert "s3cr" not in repr(credentials)
    assert credentials.redact("tried s3cr/t and s3cr%2Ft") == "tried *** and ***"


def test_no_form_of_a_secret_in_texts() -> None:
    secret = "s3cr/t=of-the-channel"
    pair = base64.b64encode(f"u:{secret}".encode()).decode()
    credentials = Credentials(
        {"h.org": Credential("BasicHTTP", secret, "u"), "i.org": Credential("CondaToken", "tk-1")}
    )
    held = NamespaceCredential("1", "team", "channel", "https://h.org/", "basic", secret, "u")
    for redact in (credentials.redact, Logins.of("team", [held]).redact):
        for form in (secret, quote(secret, safe="").lower(), pair, pair.rstrip("="), quote(pair, safe="")):
            assert redact(f"403 you sent {form}") == "403 you sent ***"
    assert credentials.redact("https://i.org/t/tk-1/c and tk-1") == "https://i.org/t/***/c and ***"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        ("{", "not JSON"),
        ("[]", "object of host names"),
        ('{"h.org": {"BearerToken": 1}}', "h.org must have"),
        ('{"h.org": {"Basic": "topsecret"}}', "h.org must have"),
    ],
)
def test_bad_credentials_file(tmp_path: Path, content: str | None, reason: str) -> None:
    path = tmp_path / "credentials.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(LoginsFileUnusable, match=reason) as caught:
        Credentials.read(path)
    assert "topsecret" not in str(caught.value)
