"""Credentials of namespaces: their addresses, what they may be sent to, and their rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from storage.catalog.credential import Form, NamespaceCredential, parse_address
from storage.catalog.credentials import NamespaceCredentials
from storage.database.account_tables import credential, namespace
from storage.database.engine import Database
from storage.errors import CredentialUnfit, CredentialUnknown, VaultKeyMissing, VaultLocked
from storage.events.changes import Changes
from storage.vault.key_text import new_key
from storage.vault.vault import NO_VAULT, Vault

OLD, NEW = new_key(), new_key()
SECRET = "hunter2-of-the-channel"
URL = "https://conda.example.org/team/"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database.open(database_url)
    async with opened.writing() as connection:
        for name in ("team", "others"):
            await connection.execute(insert(namespace).values(name=name, created=1.0, created_by="test"))
    yield opened
    await opened.close()


@pytest.fixture
def changes(tmp_path: Path) -> Changes:
    return Changes(tmp_path / "changes")


def over(database: Database, changes: Changes, *keys: str) -> NamespaceCredentials:
    return NamespaceCredentials(database, changes, Vault.open(keys or (OLD,), None))


async def put(
    credentials: NamespaceCredentials, space: str = "team", address: str = URL, form: Form = "bearer", **more: str
) -> None:
    kind, normal = parse_address(address)
    secret, username = more.get("secret", SECRET), more.get("username", "")
    await credentials.put(space, kind, normal, form, secret, username, by="test", root="on-demand")


@pytest.mark.parametrize(
    ("text", "kind", "normal"),
    [
        ("https://Conda.Example.org/team", "channel", "https://conda.example.org/team/"),
        ("https://conda.example.org:443", "channel", "https://conda.example.org/"),
        ("https://conda.example.org.:8443/a/b/", "channel", "https://conda.example.org:8443/a/b/"),
        ("oci://ghcr.io", "channel", "oci://ghcr.io/"),
        ("GHCR.io", "registry", "ghcr.io"),
        ("registry-1.docker.io/team", "registry", "docker.io/team"),
        ("localhost:5000/team/app/", "registry", "localhost:5000/team/app"),
    ],
)
def test_addresses_have_one_form(text: str, kind: str, normal: str) -> None:
    assert parse_address(text) == (kind, normal)


@pytest.mark.parametrize(
    "text",
    [
        "https://user:hunter2@conda.example.org/team",
        "https://conda.example.org/t/hunter2/team",
        "https://conda.example.org/?token=hunter2",
        "https://conda.example.org/#hunter2",
        "https://conda.example.org/a/../hunter2",
        "https://conda.example.org/a/%2e%2e/hunter2",
        "https://conda.example.org\\@hunter2/",
        "file:///hunter2",
        "https:///hunter2",
        "https://[hunter2/",
        "hunter2 hunter2",
        "hunter2@ghcr.io",
        "",
        "/",
        "a" * 600,
        "https://a.example/" + "a" * 600,
    ],
)
def test_addresses_that_could_mean_another_are_refused_unseen(text: str) -> None:
    with pytest.raises(CredentialUnfit) as caught:
        parse_address(text)
    assert "hunter2" not in str(caught.value)


def test_it_is_sent_nowhere_else() -> None:
    of_team = NamespaceCredential("1", "team", "channel", URL, "bearer", SECRET)
    for url in ("https://conda.example.org/team", "https://CONDA.example.org:443/team/noarch/repodata.json"):
        assert of_team.covers(url), url
    for url in (
        "http://conda.example.org/team/x",
        "https://conda.example.org:8443/team/x",
        "https://conda.example.org/teams/x",
        "https://conda.example.org/x",
        "https://conda.example.org/team/../x",
        "https://conda.example.org/team/%2E%2e/x",
        "https://conda.example.org/team/..%2fx",
        "https://evil.conda.example.org/team/x",
        "https://conda.example.org.evil.example/team/x",
        "https://conda.example.org@evil.example/team/x",
        "https://evil.example/https://conda.example.org/team/x",
        "oci://conda.example.org/team/x",
        "https://[::1",
        "",
    ):
        assert not of_team.covers(url), url


def test_a_registrys_is_for_the_repositories_below() -> None:
    of_team = NamespaceCredential("1", "mirror", "registry", "ghcr.io/team", "basic", SECRET, "me")
    assert of_team.covers_repository("ghcr.io", "team/app")
    assert of_team.covers_repository("ghcr.io", "team")
    assert not of_team.covers_repository("ghcr.io", "teams/app")
    assert not of_team.covers_repository("ghcr.io", "app")
    assert not of_team.covers_repository("ghcr.io.evil.example", "team/app")


def test_it_shows_in_no_repr() -> None:
    assert SECRET not in repr(NamespaceCredential("1", "team", "channel", URL, "basic", SECRET, SECRET))


async def test_it_is_read_back_for_its_namespace_alone(database: Database, changes: Changes) -> None:
    credentials = over(database, changes)
    await put(credentials, form="basic", username="me")
    await put(credentials, address="https://conda.example.org")
    found = await credentials.find("team")
    assert [(each.address, each.form, each.username, each.secret) for each in found] == [
        (URL, "basic", "me", SECRET),
        ("https://conda.example.org/", "bearer", "", SECRET),
    ]
    assert await credentials.find("others") == ()


async def test_every_process_notices_a_change(database: Database, changes: Changes) -> None:
    credentials, others = over(database, changes), over(database, changes)
    await put(credentials)
    (first,) = await others.find("team")
    await put(credentials, secret="another-one")
    (second,) = await others.find("team")
    assert second.secret == "another-one"
    assert second.id != first.id
    await credentials.remove("team", URL)
    assert await others.find("team") == ()
    with pytest.raises(
        CredentialUnknown, match=r"namespace team has no credential for https://conda.example.org/team/"
    ):
        await credentials.remove("team", URL)


async def test_a_row_in_another_namespace_or_for_another_address_does_not_open(
    database: Database, changes: Changes
) -> None:
    for moved in ({"namespace": "others"}, {"address": "https://evil.example/"}):
        credentials = over(database, changes)
        await put(credentials)
        async with database.writing() as connection:
            await connection.execute(update(credential).where(credential.c.namespace == "team").values(**moved))
        with pytest.raises(VaultLocked, match="sealed for another row"):
            await over(database, changes).find(moved.get("namespace", "team"))
        with pytest.raises(VaultLocked):
            await over(database, changes).check()
        async with database.writing() as connection:
            await connection.execute(credential.delete())


async def test_without_a_key_nothing_is_stored(database: Database, changes: Changes) -> None:
    with pytest.raises(VaultKeyMissing):
        await put(NamespaceCredentials(database, changes, NO_VAULT))
    async with database.reading() as connection:
        assert (await connection.execute(select(credential))).all() == []


@pytest.mark.parametrize(
    ("space", "address", "form", "more", "reason"),
    [
        ("nobody", URL, "bearer", {}, "there is no namespace nobody"),
        ("team", "ghcr.io", "basic", {"username": "me"}, "registries are asked by mirrors alone"),
        ("mirror", URL, "bearer", {}, "the namespace mirror has no channels"),
        ("mirror", "ghcr.io", "bearer", {}, "give --username"),
        ("team", URL, "conda-token", {}, "for a whole host"),
        ("team", "oci://ghcr.io/team", "bearer", {}, "for a whole host"),
        ("team", "oci://ghcr.io:5000", "bearer", {}, "leave the port out"),
        ("team", URL, "basic", {}, "the user name must not be empty"),
        ("team", URL, "basic", {"username": "a:b"}, "has no colon"),
        ("team", URL, "bearer", {"secret": ""}, "the secret must have"),
        ("team", URL, "bearer", {"secret": "a\nX-Other: b"}, "on one line"),
        ("team", URL, "bearer", {"secret": "package"}, "the secret must have 8 to 4096 printable"),
        ("team", URL, "bearer", {"secret": "aaaa bbbb"}, "visible ASCII"),
        ("team", "https://conda.example.org", "conda-token", {"secret": "aaa/../bbb"}, "a conda token has letters"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    database: Database, changes: Changes, space: str, address: str, form: Form, more: dict[str, str], reason: str
) -> None:
    with pytest.raises(CredentialUnfit, match=reason):
        await put(over(database, changes), space, address, form, **more)


async def test_rotation_leaves_nothing_for_the_old_key(database: Database, changes: Changes) -> None:
    await put(over(database, changes))
    assert await over(database, changes, NEW, OLD).reseal() == (1, 0)
    (found,) = await over(database, changes, NEW).find("team")
    assert found.secret == SECRET
    with pytest.raises(VaultLocked):
        await over(database, changes).find("team")
    with pytest.raises(VaultLocked):
        await over(database, changes).reseal()
    assert await over(database, changes).reseal(forget=True) == (0, 1)
    assert await over(database, changes, NEW).find("team") == ()


async def test_what_is_shown_has_no_secret(database: Database, changes: Changes) -> None:
    await put(over(database, changes), form="basic", username="me")
    (shown,) = await over(database, changes).list_all()
    assert (shown.namespace, shown.address, shown.form, shown.username) == ("team", URL, "basic", "me")
    assert SECRET not in repr(shown)
    (locked,) = await over(database, changes, NEW).list_all("team")
    assert (locked.form, locked.username) == (None, "")
