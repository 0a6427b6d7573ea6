"""Settings for signing in with identities from elsewhere: which issuers and proxies are trusted, and for what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from auth.sign_in.rules import Rule, parse_rule
from storage.errors import quote
from storage.section import Section
from storage.text import redact

MOST_ISSUERS = 32
MOST_RULES = 500

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")

SHARED_ISSUERS: Mapping[str, frozenset[str]] = {
    "https://token.actions.githubusercontent.com": frozenset(
        {"sub", "repository", "repository_id", "repository_owner", "repository_owner_id"}
    ),
    "https://gitlab.com": frozenset({"sub", "project_path", "project_id", "namespace_path", "namespace_id"}),
}
"""Issuers that sign for anybody in the world, and the claims that say for whom."""


class WorkloadSettings(Section):
    """Issuers of tokens that CI jobs and pods have anyway, and which of these may do what."""

    workload_issuers: tuple[str, ...] = Field(
        (),
        description="Issuers (OpenID Connect) whose tokens CI jobs and pods may show instead of a password, such as "
        "https://token.actions.githubusercontent.com.",
    )
    workload_audience: str | None = Field(
        None,
        pattern=r"^[!-~]{1,255}$",
        description="What tokens of workloads must be made for, such as https://registry.example.org. Tokens for "
        "anything else, or for several audiences, are refused.",
    )
    workload_rules: tuple[str, ...] = Field(
        (),
        description="Which workloads get which role, such as "
        'repository == "org/app" and ref == "refs/heads/main" -> viewer on team/*. '
        "If there are several issuers, each rule names its own with iss == ...",
    )
    workload_internal_hosts: tuple[str, ...] = Field(
        (),
        description="Hosts (host, or host:port) with internal addresses from which an issuer's keys may be fetched, "
        "besides those of the issuers themselves.",
    )
    workload_ca_file: Path | None = Field(
        None,
        description="PEM file with further certificate authorities that issuers' certificates are checked against, "
        "such as that of a Kubernetes cluster.",
    )

    @property
    def parsed_rules(self) -> tuple[Rule, ...]:
        return tuple(map(parse_rule, self.workload_rules))

    @field_validator("workload_issuers")
    @classmethod
    def _are_issuers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > MOST_ISSUERS:
            raise ValueError(f"more than {MOST_ISSUERS} issuers")
        for each in value:
            check_issuer(each)
        for each in value:
            if value.count(each) > 1:
                raise ValueError(f"{each!r} is given twice")
            # a workload is called by its issuer and its subject, which must not be confused with those of another
            below = next((other for other in value if other.startswith(each.rstrip("/") + "/")), None)
            if below is not None:
                raise ValueError(f"{each!r} and {below!r} would give their workloads the same names")
        return value

    @field_validator("workload_rules")
    @classmethod
    def _are_rules(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > MOST_RULES:
            raise ValueError(f"more than {MOST_RULES} rules")
        for each in value:
            parse_rule(each)
        return value

    @field_validator("workload_internal_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_hosts(value)

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if not self.workload_issuers:
            if self.workload_rules:
                raise ValueError("workload_rules: there are no workload_issuers that they could be about")
            return self
        if self.workload_audience is None:
            raise ValueError(
                "workload_audience: set it to what workloads ask their tokens for, such as the address of this server; "
                "without it a token that was made for another service would be accepted"
            )
        for rule in self.parsed_rules:
            _check_rule(rule, self.workload_issuers)
        return self


def check_issuer(text: str) -> str:
    """The URL of an issuer (OpenID Connect Discovery 1.0, section 3). Raises ValueError."""
    try:
        parts = urlsplit(text)
        usable = parts.hostname is not None and parts.port != 0
    except ValueError:
        raise ValueError(f"{quote(redact(text))} is not the address of an issuer") from None
    odd = parts.username is not None or re.search(r"[^!-~]|[?#\\]", text)
    if len(text) > 255 or not usable or odd or parts.scheme not in ("https", "http"):
        raise ValueError(f"{quote(redact(text))} is not the address of an issuer, such as https://gitlab.example.org")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError(f"{quote(text)}: an issuer's keys are fetched over https, except from this machine")
    return text


def check_hosts(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Raises ValueError."""
    for each in texts:
        if not _HOST.fullmatch(each):
            raise ValueError(f"{quote(redact(each))} is not a host, with or without a port")
    return texts


def _check_rule(rule: Rule, issuers: tuple[str, ...]) -> None:
    """Raises ValueError for a rule that would be taken for one about another issuer, or about everybody."""
    issuer = rule.issuer or (issuers[0] if len(issuers) == 1 else None)
    where = f"workload_rules: {quote(str(rule))}"
    if issuer is None:
        raise ValueError(f'{where}: name its issuer, since there are several, with iss == "{issuers[0]}"')
    if issuer not in issuers:
        raise ValueError(f"{where}: {quote(issuer)} is not one of workload_issuers")
    picking = [each for each in rule.conditions if each.path not in (("iss",), ("aud",)) and each.operator != "!="]
    if not picking:
        raise ValueError(f"{where}: it is about everybody who has a token of this issuer; say who, with == or like")
    telling = SHARED_ISSUERS.get(issuer)
    if telling is not None and not any(
        each.path[0] in telling and not str(each.value).startswith("*") for each in picking
    ):
        raise ValueError(
            f"{where}: anybody in the world can have such a token of {issuer}; say whose, with one of "
            f"{', '.join(sorted(telling))}"
        )


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
