"""Sealed texts: for their row alone, by one of several keys, and never without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors import VaultKeyMissing, VaultKeysInvalid, VaultLocked
from storage.vault.key_text import new_key, read_key
from storage.vault.vault import NO_VAULT, Vault, is_sealed, key_of

OLD, NEW = new_key(), new_key()


def vault(*keys: str) -> Vault:
    return Vault.open(keys, None)


def test_what_is_sealed_is_opened() -> None:
    sealed = vault(OLD).seal("hunter2 ü", "row")
    assert is_sealed(sealed)
    assert "hunter2" not in sealed
    assert vault(OLD).unseal(sealed, "row") == "hunter2 ü"


def test_the_same_text_is_never_sealed_alike() -> None:
    assert len({vault(OLD).seal("hunter2", "row") for _ in range(20)}) == 20


def test_the_newest_key_seals_and_all_open() -> None:
    old = vault(OLD).seal("hunter2", "row")
    both = vault(NEW, OLD)
    assert both.unseal(old, "row") == "hunter2"
    assert key_of(both.seal("hunter2", "row")) == both.newest == vault(NEW).newest
    with pytest.raises(VaultLocked, match=f"the key {vault(OLD).newest}, which the settings do not have"):
        vault(NEW).unseal(old, "row")


def test_it_opens_in_no_other_row() -> None:
    sealed = vault(OLD).seal("hunter2", "team for https://conda.example.org/")
    with pytest.raises(VaultLocked, match="sealed for another row"):
        vault(OLD).unseal(sealed, "others for https://conda.example.org/")


@pytest.mark.parametrize("place", range(-1, -40, -3))
def test_damage_is_noticed(place: int) -> None:
    sealed = vault(OLD).seal("hunter2", "row")
    other = "A" if sealed[place] != "A" else "Q"
    with pytest.raises(VaultLocked):
        vault(OLD).unseal(f"{sealed[:place]}{other}{sealed[len(sealed) + place + 1 :]}", "row")


@pytest.mark.parametrize("text", ["", "hunter2", "sealed:1:", "sealed:1:x", "sealed:1:{key}:", "sealed:1:{key}:%%%"])
def test_what_is_no_sealed_text_is_refused(text: str) -> None:
    with pytest.raises(VaultLocked):
        vault(OLD).unseal(text.format(key=vault(OLD).newest), "row")


def test_without_a_key_nothing_is_sealed_and_the_error_says_what_to_set() -> None:
    with pytest.raises(VaultKeyMissing, match="condery vault new-key, and set vault_key_file"):
        NO_VAULT.seal("hunter2", "row")


def test_a_file_has_keys_and_comments(tmp_path: Path) -> None:
    (path := tmp_path / "keys").write_text(f"# the newest\n{NEW}\n\n{OLD}\r\n")
    assert Vault.open([], path).newest == vault(NEW).newest
    assert Vault.open([], path).unseal(vault(OLD).seal("x", "row"), "row") == "x"


@pytest.mark.parametrize("content", [None, "", "# nothing\n", "hunter2\n", "{key}\n{cut}\n", "{key}x\n"])
def test_a_file_that_is_wrong_is_refused_without_showing_it(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content.format(key=OLD, cut=OLD[:-3]))
    with pytest.raises(VaultKeysInvalid, match=f"vault_key_file {path}: ") as caught:
        Vault.open([], path)
    assert "hunter2" not in str(caught.value)
    assert OLD[:-3] not in str(caught.value)


def test_keys_show_nowhere() -> None:
    assert OLD not in repr(vars(vault(OLD)))
    assert str(read_key(OLD)) not in repr(vars(vault(OLD)))
