"""Asking a provider again who somebody is, while their browser is signed in.

Groups that are gone there take their rights with them, and so does a person who may not sign in any more. It is asked
with a refresh token, which most providers take only once, so one process asks at a time; what it says counts for all.
"""

from __future__ import annotations

import asyncio
import math
import time

import structlog
from cachetools import LRUCache

from auth.audit.event import AuditEvent
from auth.audit.log import AuditLog
from auth.principal import Principal
from auth.sign_in.errors import ProviderUnreachable, SignInEnded, SignInFailed, SignInRefused
from auth.sign_in.identities import Identities
from auth.sign_in.provider import Provider
from auth.sign_in.sessions import SESSION_ENDED, BrowserSession, BrowserSessions
from auth.tokens.secrets_text import hash_of

AGAIN_SECONDS = 30.0
"""A provider that did not answer is left alone for so long, about one session or about all."""
MOST_REMEMBERED = 4096

log = structlog.get_logger(__name__)


class Renewals:
    """Those of sessions from `provider`, for all requests of one process."""

    def __init__(
        self,
        provider: Provider,
        sessions: BrowserSessions,
        identities: Identities,
        audit: AuditLog,
        minutes: float,
    ) -> None:
        """`minutes` is the age of the provider's word from which it is asked again."""
        self._provider = provider
        self._sessions = sessions
        self._identities = identities
        self._seconds = minutes * 60
        self._audit = audit
        self._away = -math.inf
        """When it could not be asked about anybody (by the monotonic clock)."""
        self._failed: LRUCache[str, float] = LRUCache(MOST_REMEMBERED)
        """When it gave no answer about a session."""
        self._running: dict[str, asyncio.Task[None]] = {}

    def due_at(self, session: BrowserSession) -> float:
        """From when on (UNIX seconds) the provider has to be asked about a session again; never if it need not be."""
        if not session.sealed or session.issuer != self._provider.issuer:
            return math.inf
        return session.checked + self._seconds

    async def renew(self, text: str, session: BrowserSession, principal: Principal, client: str) -> None:
        """Ask about the session of `text`, which is of `principal`; afterwards it is what the provider says now, or
        ended.

        Whoever else asks meanwhile waits for the same answer. If the provider cannot be asked, the session is left as
        it is, and with it when the provider's word ends.
        """
        key = hash_of(text)
        task = self._running.get(key)
        if task is None:
            # what goes wrong about one person keeps no other from being asked about
            if time.monotonic() - max(self._away, self._failed.get(key, -math.inf)) < AGAIN_SECONDS:
                return
            task = self._running[key] = asyncio.create_task(self._renew(text, session, principal, client))
            task.add_done_callback(lambda _: self._running.pop(key, None))
        # a token that was used has to be replaced, also when nobody waits for it any more
        await asyncio.shield(task)

    async def close(self) -> None:
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _renew(self, text: str, session: BrowserSession, principal: Principal, client: str) -> None:
        token = await self._sessions.take_refresh(text, session)
        if token is None:
            return
        checked = False
        try:
            found = await self._provider.refresh(token)
            token = found.refresh
            await self._identities.renew(found.identity, session.credential.account, client=client)
            checked = True
        except ProviderUnreachable:
            self._away = time.monotonic()
        except SignInFailed:
            self._failed[hash_of(text)] = time.monotonic()
        except (SignInEnded, SignInRefused) as error:
            log.info("session ended by its provider", issuer=session.issuer, reason=str(error))
            await self._sessions.end(text)
            detail = {"issuer": session.issuer, "reason": str(error)}
            self._audit.note(AuditEvent.by(principal, SESSION_ENDED, principal.name, client=client, detail=detail))
            return
        finally:
            # also when the database fails in between; a session that has ended is not there to be changed
            await self._sessions.put_refresh(text, token, checked=checked)
