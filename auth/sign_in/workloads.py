"""Workloads: CI jobs and pods that show a token of their issuer instead of a stored secret.

A workload has no account. It is called `workload/ISSUER/SUBJECT`, and may do what the rules say that match its claims,
besides what anybody may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from auth.binding import Binding
from auth.grants import Grants
from auth.principal import Principal
from auth.role import Roles
from auth.sign_in.errors import IdentityRefused, IssuerUnusable, WorkloadRuleInvalid
from auth.sign_in.identity_token import expiry_of, read_unverified, verify
from auth.sign_in.issuer_address import name_of_issuer
from auth.sign_in.issuer_keys import Discovery, Fetch, IssuerKeys
from auth.sign_in.rules import Rule
from auth.sign_in.shared_issuers import find_picking, is_about_many
from auth.sign_in.workload_settings import WorkloadSettings
from auth.tokens.credential import Credential, Workload
from auth.tokens.errors import CredentialsInvalid

LONGEST_NAME = 255
"""As the audit log has it."""
MOST_MATCHING = 16
"""Rules for one workload: what is made from its token names them, and has to fit into a request's header."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Granting:
    rule: Rule
    issuer: str
    binding: Binding


class Workloads:
    """Those of the issuers of the settings, for all requests of one process.

    It is what `auth.tokens.credential` calls Workloads, and a reader of tokens for `registry.access.authentication`.
    """

    def __init__(self, settings: WorkloadSettings, roles: Roles, fetch: Fetch) -> None:
        """Raises WorkloadRuleInvalid for a role that there is not."""
        self._audience = settings.workload_audience or ""
        self._longest = settings.workload_longest_token
        self._keys = {each: IssuerKeys(Discovery(each, fetch), fetch) for each in settings.workload_issuers}
        self._rules = {each.rule.key: each for each in _read_rules(settings, roles)}

    def __bool__(self) -> bool:
        """Whether there are any issuers."""
        return bool(self._keys)

    def knows(self, text: str) -> bool:
        """Whether a text says that it is a token of one of the issuers; that anybody can write."""
        return bool(self._keys) and self._find_issuer(text) is not None

    async def read(self, text: str) -> Credential:
        """What whoever shows this token has proved. Raises CredentialsInvalid, IssuerUnusable."""
        issuer = self._find_issuer(text)
        if issuer is None:
            raise CredentialsInvalid("it is of no issuer that is trusted here")
        try:
            claims = await verify(text, issuer, self._audience, self._keys[issuer])
            return self._match(issuer, claims)
        except IdentityRefused as error:
            log.info("token of a workload refused", issuer=issuer, reason=error.reason)
            raise CredentialsInvalid(error.reason) from None
        except IssuerUnusable as error:
            log.warning("token of a workload cannot be checked", issuer=issuer, reason=error.reason)
            raise

    def load(self, workload: Workload, anybody: Principal) -> Principal:
        """What it may do now, besides what `anybody` may. Raises CredentialsInvalid if all its rules are gone."""
        rules = tuple(key for key in workload.rules if key in self._rules)
        if not rules:
            raise CredentialsInvalid("the rules that it was let in by are gone")
        granted = (self._rules[key].binding for key in rules)
        return Principal(workload.name, "workload", grants=Grants((*anybody.grants.bindings, *granted)), rules=rules)

    async def close(self) -> None:
        await asyncio.gather(*(each.close() for each in self._keys.values()))

    def _find_issuer(self, text: str) -> str | None:
        unverified = read_unverified(text)
        issuer = unverified.claims.get("iss") if unverified is not None else None
        return issuer if isinstance(issuer, str) and issuer in self._keys else None

    def _match(self, issuer: str, claims: Mapping[str, Any]) -> Credential:
        """Raises IdentityRefused."""
        subject = claims["sub"]
        if not (lasts := float(claims["exp"]) - float(claims["iat"])) <= self._longest:
            raise IdentityRefused(f"it lasts {lasts:.0f} s, and workload_longest_token is {self._longest:.0f}")
        own = [(key, each.rule) for key, each in self._rules.items() if each.issuer == issuer]
        matching = tuple(key for key, rule in own if rule.matches(claims))
        if not matching:
            raise IdentityRefused(f"no rule matches {subject!r}")
        if len(matching) > MOST_MATCHING:
            raise IdentityRefused(f"more than {MOST_MATCHING} rules match {subject!r}")
        name = f"workload/{name_of_issuer(issuer)}{subject}"
        if len(name) > LONGEST_NAME:
            raise IdentityRefused(f"issuer and subject are longer than {LONGEST_NAME} characters")
        return Credential("", workload=Workload(name, matching), expires=expiry_of(claims))


def _read_rules(settings: WorkloadSettings, roles: Roles) -> Iterable[_Granting]:
    for rule in settings.parsed_rules:
        try:
            role = roles.find(rule.role)
        except ValueError as error:
            raise WorkloadRuleInvalid(f"workload_rules: {rule}: {error}") from None
        issuer = rule.issuer or _only(settings.workload_issuers)
        if is_about_many(find_picking(rule)):
            log.warning("rule does not say whose workloads it is about", rule=str(rule), issuer=issuer)
        yield _Granting(rule, issuer, Binding(rule.pattern, role, f"setting workload_rules: {rule}"))


def _only(issuers: Sequence[str]) -> str:
    assert len(issuers) == 1, "the settings were checked"
    return issuers[0]
