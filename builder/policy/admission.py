"""Whether what is asked for may be made, and what is stored may be given out, by the policy of now."""

from __future__ import annotations

import math
import time
from typing import Protocol

from cachetools import LRUCache

from builder.errors import PolicyRefusal
from builder.locks.aside import read_lock, work_on
from builder.locks.lock import Lock
from builder.names.spec import EnvironmentSpec
from builder.policy.policies import Policies
from builder.policy.policy import Policy, check_lock, check_spec
from storage.catalog.documents import Document
from storage.catalog.locks import write_lock_tag
from storage.clock import is_within

_MOST_REMEMBERED = 1 << 14


class StoredLocks(Protocol):
    """`storage.catalog.locks`."""

    async def find(self, key: str) -> Document | None: ...


class Admission:
    """What is made on demand has one namespace, the first part of its names; what is named has its own."""

    def __init__(self, policies: Policies, locks: StoredLocks, namespace: str, environment: str | None = None) -> None:
        self.policies = policies
        self._locks = locks
        self._namespace = namespace
        self._environment = environment
        self._admitted: LRUCache[tuple[str, str], float] = LRUCache(_MOST_REMEMBERED)
        """When which policy let which lock pass, by the keys of both.

        Packages only grow older, so it still does, unless the clock was ahead then."""

    def of(self, namespace: str, environment: str | None = None) -> Admission:
        """The same for what is made in another namespace, or for an environment there."""
        other = Admission(self.policies, self._locks, namespace, environment)
        other._admitted = self._admitted
        return other

    async def find_policy(self) -> Policy:
        """Return the policy that holds now. Raises PolicyUnavailable."""
        return await self.policies.find(self._namespace, self._environment)

    async def check_spec(self, spec: EnvironmentSpec) -> None:
        """Raises PolicyRefusal, PolicyUnavailable."""
        check_spec(await self.find_policy(), spec)

    async def check_lock(self, lock: Lock) -> None:
        """Check a lock before anything is made of it. Raises PolicyRefusal, PolicyUnavailable."""
        policy, now = await self.find_policy(), time.time()
        if not policy.key:
            return
        key = (policy.key, await work_on(lambda: lock.key, lock))
        if not self._is_admitted(key, now):
            await work_on(lambda: check_lock(policy, lock, now), lock)
            self._admitted[key] = now

    async def check_stored(self, lock_key: str) -> None:
        """Check a stored lock before what was made of it is given out. Raises PolicyRefusal, PolicyUnavailable."""
        policy = await self.find_policy()
        key, now = (policy.key, lock_key), time.time()
        if not policy.key or self._is_admitted(key, now):
            return
        document = await self._locks.find(lock_key)
        if document is None:
            raise PolicyRefusal(
                f"{write_lock_tag(lock_key)} is not served: the lock itself was deleted, so what it holds cannot be "
                "checked; pull the tag latest"
            )
        lock = await read_lock(document)
        try:
            await work_on(lambda: check_lock(policy, lock, now), lock)
        except PolicyRefusal as error:
            raise PolicyRefusal(f"{write_lock_tag(lock_key)} is not served any more: {error.reason}") from None
        self._admitted[key] = now

    def _is_admitted(self, key: tuple[str, str], now: float) -> bool:
        admitted = self._admitted.get(key)
        return admitted is not None and is_within(math.inf, admitted, now)
