"""Asking a provider again who somebody is, while their browser is signed in.

Groups that are gone there take their rights with them, and so does a person who may not sign in any more. It is asked
with a refresh token, which most providers take only once, so one process asks at a time; what it says counts for all.
"""

from __future__ import annotations

import asyncio
import math
import time

import structlog

from auth.sign_in.errors import SignInEnded, SignInFailed, SignInRefused
from auth.sign_in.identities import Identities
from auth.sign_in.provider import Provider
from auth.sign_in.sessions import BrowserSession, BrowserSessions
from auth.tokens.secrets_text import hash_of

AGAIN_SECONDS = 30.0
"""A provider that did not answer is left alone for so long."""

log = structlog.get_logger(__name__)


class Renewals:
    """Those of sessions from `provider`, for all requests of one process."""

    def __init__(self, provider: Provider, sessions: BrowserSessions, identities: Identities, minutes: float) -> None:
        """`minutes` is the age of the provider's word from which it is asked again."""
        self._provider = provider
        self._sessions = sessions
        self._identities = identities
        self._seconds = minutes * 60
        self._failed = -math.inf
        self._running: dict[str, asyncio.Task[None]] = {}

    def due_at(self, session: BrowserSession) -> float:
        """From when on (UNIX seconds) the provider has to be asked about a session again; never if it need not be."""
        if not session.sealed or session.issuer != self._provider.issuer:
            return math.inf
        return session.checked + self._seconds

    async def renew(self, text: str, session: BrowserSession, client: str) -> None:
        """Ask about the session of `text`; afterwards it is what the provider says now, or ended.

        Whoever else asks meanwhile waits for the same answer. If the provider cannot be asked, the session is left as
        it is, and with it when the provider's word ends.
        """
        key = hash_of(text)
        task = self._running.get(key)
        if task is None:
            if time.monotonic() - self._failed < AGAIN_SECONDS:
                return
            task = self._running[key] = asyncio.create_task(self._renew(text, session, client))
            task.add_done_callback(lambda _: self._running.pop(key, None))
        # a token that was used has to be replaced, also when nobody waits for it any more
        await asyncio.shield(task)

    async def close(self) -> None:
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _renew(self, text: str, session: BrowserSession, client: str) -> None:
        token = await self._sessions.take_refresh(text, session)
        if token is None:
            return
        checked = False
        try:
            found = await self._provider.refresh(token)
            token = found.refresh
            await self._identities.renew(found.identity, session.credential.account, client=client)
            checked = True
        except SignInFailed:
            self._failed = time.monotonic()
        except (SignInEnded, SignInRefused) as error:
            log.info("session ended by its provider", issuer=session.issuer, reason=str(error))
            await self._sessions.end(text)
            return
        finally:
            # also when the database fails in between; a session that has ended is not there to be changed
            await self._sessions.put_refresh(text, token, checked=checked)
