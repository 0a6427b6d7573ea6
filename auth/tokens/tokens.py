"""All kinds of tokens of a server, over one database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from auth.changing import AccessData
from auth.settings import AccessSettings
from auth.tokens.access_tokens import AccessTokens
from auth.tokens.refresh_tokens import RefreshTokens
from auth.tokens.registry_tokens import RegistryTokens
from auth.tokens.signing_keys import SigningKeys
from storage.vault.vault import NO_VAULT, Vault


@dataclass(frozen=True)
class Tokens:
    keys: SigningKeys
    registry: RegistryTokens
    refresh: RefreshTokens
    access: AccessTokens

    @classmethod
    def open(cls, data: AccessData, settings: AccessSettings, service: str, vault: Vault = NO_VAULT) -> Self:
        """`service` is the name of the server in its tokens; `vault` encrypts private keys in the database."""
        keys = SigningKeys(data, vault)
        return cls(
            keys,
            RegistryTokens(keys, service, settings.token_seconds),
            RefreshTokens(data, settings.refresh_days),
            AccessTokens(data, settings.own_roles, settings.access_token_days),
        )
