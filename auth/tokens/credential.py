"""What somebody has proved, and the principal that they are for it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, Self

from auth.grants import Grants
from auth.principal import Principal, Scopes
from auth.tokens.errors import CredentialsInvalid


class Workload(NamedTuple):
    """Who somebody is by the word of an issuer. It says nothing of what they may do: the rules may change."""

    name: str
    rules: tuple[str, ...]
    """The keys of those that match."""


@dataclass(frozen=True)
class Credential:
    """That somebody may act for an account, however they showed it. It says nothing of what the account may do."""

    account: str
    """Its id; empty for anybody."""
    epoch: int = 0
    """The account's when the credential was made: it counts up when everything that was issued is to end."""
    access_token: str = ""
    """The id of the access token that this is, or was made from."""
    workload: Workload | None = None
    """Who this is instead of an account."""
    scopes: Scopes | None = None
    expires: float = math.inf
    """UNIX seconds."""

    @classmethod
    def of(cls, principal: Principal) -> Self:
        """What whoever sent a request has proved with it."""
        workload = Workload(principal.name, principal.rules) if principal.kind == "workload" else None
        return cls(principal.id, principal.epoch, principal.token, workload)


ANYBODY = Credential("")


class Loaded(Protocol):
    """An account as it is now."""

    @property
    def principal(self) -> Principal: ...

    @property
    def epoch(self) -> int: ...

    @property
    def expires(self) -> float | None: ...

    @property
    def disabled(self) -> bool: ...


class AccountLoader(Protocol):
    """Loads who may do what; `auth.accounts.loading` does."""

    async def load(self, account_id: str) -> Loaded | None: ...

    async def anonymous(self) -> Principal: ...


class Limit(NamedTuple):
    """What an access token adds to what its account may do: nothing; and what it takes away."""

    grants: Grants | None
    """None for a token that is not limited."""
    expires: float


class LimitFinder(Protocol):
    async def find_limits(self, token_id: str, account_id: str) -> tuple[Limit, ...] | None:
        """Those of the token and of the tokens it was made with; None if it does not hold any more."""


class WorkloadLoader(Protocol):
    """Loads what workloads may do; `auth.sign_in.workloads` does."""

    def load(self, workload: Workload, anybody: Principal) -> Principal:
        """Its principal, besides what `anybody` may do. Raises CredentialsInvalid for one that no rule is about."""


class Recognised(NamedTuple):
    principal: Principal
    until: float
    """UNIX seconds from which the credential does not hold any more."""


class Recognition:
    """From credentials to principals, by what the database says now."""

    def __init__(
        self, accounts: AccountLoader, access_tokens: LimitFinder, workloads: WorkloadLoader | None = None
    ) -> None:
        self._accounts = accounts
        self._access_tokens = access_tokens
        self._workloads = workloads

    async def recognise(self, credential: Credential) -> Recognised:
        """Raises CredentialsInvalid for what does not hold any more."""
        if credential.expires <= time.time():
            raise CredentialsInvalid("it has expired")
        if not credential.account:
            principal = await self._accounts.anonymous()
            if credential.workload is not None:
                if self._workloads is None:
                    raise CredentialsInvalid("no workloads are let in any more")
                principal = self._workloads.load(credential.workload, principal)
            return Recognised(replace(principal, scopes=credential.scopes), credential.expires)
        account = await self._find_account(credential)
        limits: tuple[Limit, ...] = ()
        if credential.access_token:
            found = await self._access_tokens.find_limits(credential.access_token, credential.account)
            if found is None:
                raise CredentialsInvalid("its access token is revoked or has expired")
            limits = found
        principal = replace(
            account.principal,
            limits=(*account.principal.limits, *(limit.grants for limit in limits if limit.grants is not None)),
            scopes=credential.scopes,
            token=credential.access_token,
            epoch=account.epoch,
        )
        ends = [credential.expires, *(limit.expires for limit in limits)]
        return Recognised(principal, min(ends if account.expires is None else [*ends, account.expires]))

    async def _find_account(self, credential: Credential) -> Loaded:
        account = await self._accounts.load(credential.account)
        if account is None:
            raise CredentialsInvalid("its account is gone")
        if account.disabled:
            raise CredentialsInvalid("its account is disabled")
        if account.expires is not None and account.expires <= time.time():
            raise CredentialsInvalid("its account has expired")
        # an access token was given to a machine, which a new password does not stop: it is revoked by itself
        if account.epoch != credential.epoch and not credential.access_token:
            raise CredentialsInvalid("everything that was issued to its account has ended since")
        return account


def write_access(scopes: Scopes) -> list[Mapping[str, object]]:
    """As the claim `access` has them (distribution, "Token Authentication Implementation")."""
    return [
        {"type": kind, "name": name, "actions": sorted(actions)}
        for (kind, _, name), actions in ((key.partition(":"), actions) for key, actions in scopes.items())
    ]
