"""Settings for people who sign in elsewhere: which provider and which proxy are trusted, and for what."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from auth.sign_in.issuer_address import check_hosts, check_issuer
from storage.errors import quote
from storage.section import Section

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_TAKEN = re.compile(
    r"authorization|cookie|host|origin|referer|connection|forwarded|content-.*|transfer-.*|sec-.*|accept.*"
    r"|x-forwarded-(?:for|host|proto)|x-request-id",
    re.IGNORECASE,
)
"""Headers with another meaning, which clients and proxies send for that."""


class SignInSettings(Section):
    """People who have signed in elsewhere."""

    proxy_user_header: str | None = Field(
        None,
        description="Header in which a trusted proxy names the user whom it has signed in, such as X-Forwarded-User. "
        "The proxy has to remove this header from what its clients send. It is read from trusted_proxies alone.",
    )
    proxy_groups_header: str | None = Field(
        None,
        description="Header in which the proxy lists the groups of that user, separated by commas. Those that exist "
        "here count.",
    )

    oidc_issuer: str | None = Field(
        None, description="Provider (OpenID Connect) at which people sign in with their browser, under /login."
    )
    oidc_client_id: str | None = Field(
        None, pattern=r"^[!-?A-~]{1,255}$", description="Client id of this server at the provider."
    )
    oidc_client_secret_file: Path | None = Field(
        None, description="File with the client secret; when unset, the server is a public client and uses PKCE alone."
    )
    oidc_scopes: tuple[str, ...] = Field(
        ("openid", "profile"), description="Scopes to request from the provider; openid is always added."
    )
    oidc_name_claim: str = Field(
        "preferred_username",
        min_length=1,
        description="Claim from which the account of a new person gets its name. The provider's `sub` alone identifies "
        "the person.",
    )
    oidc_groups_claim: str | None = Field(
        None, description="Claim with the list of their groups, such as groups. Those that exist here count."
    )
    oidc_refresh_minutes: float = Field(
        10,
        gt=0,
        le=60,
        description="Minutes after which the provider is asked again who somebody is and in which groups, if it gave a "
        "refresh token. What it said is good for an hour: without such a token one signs in again after that.",
    )
    oidc_internal_hosts: tuple[str, ...] = Field(
        (), description="Hosts (host, or host:port) with internal addresses to which the provider may refer."
    )
    oidc_ca_file: Path | None = Field(
        None, description="PEM file with further certificate authorities for the provider's certificate."
    )

    @field_validator("oidc_issuer")
    @classmethod
    def _is_issuer(cls, value: str | None) -> str | None:
        return check_issuer(value) if value is not None else None

    @field_validator("oidc_internal_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_hosts(value)

    @field_validator("oidc_scopes")
    @classmethod
    def _have_openid(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if not re.fullmatch(r"[!#-\[\]-~]+", each):
                raise ValueError(f"{quote(each)} is not a scope")
        return value if "openid" in value else ("openid", *value)

    @model_validator(mode="after")
    def _have_client(self) -> Self:
        if (self.oidc_issuer is None) != (self.oidc_client_id is None):
            raise ValueError("oidc_issuer and oidc_client_id go together: set both or none")
        return self

    @field_validator("proxy_user_header", "proxy_groups_header")
    @classmethod
    def _is_header(cls, value: str | None) -> str | None:
        if value is not None and (not _HEADER.fullmatch(value) or _TAKEN.fullmatch(value)):
            raise ValueError("must be a header of the proxy's own, such as X-Forwarded-User")
        return value

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.proxy_groups_header is not None:
            if self.proxy_user_header is None:
                raise ValueError("proxy_groups_header: there is no proxy_user_header to say whose groups these are")
            if self.proxy_groups_header.lower() == self.proxy_user_header.lower():
                raise ValueError("proxy_groups_header and proxy_user_header are the same header")
        return self
