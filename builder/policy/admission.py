"""Whether what is asked for may be made, and what is stored may be given out, by the policy of now."""

from __future__ import annotations

import time
from typing import Protocol

from cachetools import LRUCache

from builder.errors import PolicyRefusal
from builder.locks.lock import Lock
from builder.names.spec import EnvironmentSpec
from builder.policy.policies import Policies
from builder.policy.policy import Policy, check_lock, check_spec
from storage.catalog.documents import Document

_MOST_REMEMBERED = 1 << 14


class StoredLocks(Protocol):
    """`storage.catalog.locks`."""

    async def find(self, key: str) -> Document | None: ...


class Admission:
    """What is made on demand has one namespace, the first part of its names."""

    def __init__(self, policies: Policies, locks: StoredLocks, namespace: str) -> None:
        self.policies = policies
        self._locks = locks
        self._namespace = namespace
        self._admitted: LRUCache[tuple[str, str], None] = LRUCache(_MOST_REMEMBERED)
        """Keys of policies and of the locks that they let pass. Packages only grow older, so they still do."""

    async def find_policy(self) -> Policy:
        """Return the policy that holds now. Raises PolicyUnavailable."""
        return await self.policies.find(self._namespace)

    async def check_spec(self, spec: EnvironmentSpec) -> None:
        """Raises PolicyRefusal, PolicyUnavailable."""
        check_spec(await self.find_policy(), spec)

    async def check_lock(self, lock: Lock) -> None:
        """Check a lock before anything is made of it. Raises PolicyRefusal, PolicyUnavailable."""
        policy = await self.find_policy()
        key = (policy.key, lock.key)
        if policy.key and key not in self._admitted:
            check_lock(policy, lock, time.time())
            self._admitted[key] = None

    async def check_stored(self, lock_key: str) -> None:
        """Check a stored lock before what was made of it is given out. Raises PolicyRefusal, PolicyUnavailable."""
        policy = await self.find_policy()
        if not policy.key or (policy.key, lock_key) in self._admitted:
            return
        document = await self._locks.find(lock_key)
        if document is None:
            raise PolicyRefusal(
                f"lock-{lock_key[:12]} is not served: the lock itself was deleted, so what it holds cannot be checked; "
                "pull the tag latest"
            )
        try:
            check_lock(policy, Lock.from_json(document), time.time())
        except PolicyRefusal as error:
            raise PolicyRefusal(f"lock-{lock_key[:12]} is not served any more: {error.reason}") from None
        self._admitted[policy.key, lock_key] = None
