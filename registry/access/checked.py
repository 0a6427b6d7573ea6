"""Credentials that held when they were checked, for a short time.

They are kept under a keyed hash: who reads the memory of this process finds no secret in it. Passwords, tokens of
accounts and tokens of nobody are kept apart, because whoever has one of a kind, or anybody, can have thousands of
another kind.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from auth.accounts.hashing import normalize
from auth.changing import AccessData
from auth.principal import Principal
from auth.remembered import RememberedAnswers
from auth.tokens.credential import Credential, Recognised
from auth.tokens.secrets_text import may_be_token
from registry.access.authorization import Shown, read_authorization

MOST_REMEMBERED = 10_000
"""Of each kind, of about 1 KB each."""


@dataclass(frozen=True, slots=True)
class Checked:
    credential: Credential
    principal: Principal
    """Whoever has proved it, as they were when it was last recognised."""


_Answers = RememberedAnswers[bytes, Checked]


class CheckedCredentials:
    """For all requests of one process."""

    def __init__(self, data: AccessData, most: int = MOST_REMEMBERED) -> None:
        self._key = secrets.token_bytes(32)
        self._passwords: _Answers = RememberedAnswers(data, most)
        self._tokens: _Answers = RememberedAnswers(data, most)
        self._tokens_of_nobody: _Answers = RememberedAnswers(data, most)

    def key_of(self, shown: Shown) -> bytes:
        """The same for all spellings of one login or token: that of the header as most write it."""
        name, secret = shown
        if name is None:
            return self._digest(f"Bearer {secret}")
        # a name that was read from a header has no colon
        login = f"{name}:{normalize(secret)}".encode()
        return self._digest(f"Basic {base64.b64encode(login).decode()}")

    def recall(self, header: str) -> Checked | None:
        """Who has shown it, if that still holds. Raises CredentialsInvalid for what nobody can have shown."""
        key = self._digest(header)
        kinds = (self._passwords,) if header.startswith("Basic") else (self._tokens, self._tokens_of_nobody)
        for each in kinds:
            if (found := each.find(key)) is not None:
                return found
        return self.find(read_authorization(header))

    def find(self, shown: Shown) -> Checked | None:
        """Who has shown it, if that still holds."""
        return self._find(shown, RememberedAnswers.find)

    def find_old(self, shown: Shown) -> Checked | None:
        """Likewise if nothing had changed since."""
        return self._find(shown, RememberedAnswers.find_old)

    def keep(self, shown: Shown, credential: Credential, found: Recognised, stamp: int, seconds: float) -> None:
        seconds = min(seconds, found.until - time.time())
        self._kind(shown, credential).keep(self.key_of(shown), Checked(credential, found.principal), stamp, seconds)

    def replace(self, shown: Shown, credential: Credential, found: Recognised, stamp: int) -> None:
        """Likewise, for as long as it was to be kept before."""
        checked, seconds = Checked(credential, found.principal), found.until - time.time()
        for each in {shown, Shown(None, shown.secret)} if may_be_token(shown.secret) else {shown}:
            self._kind(each, credential).replace(self.key_of(each), checked, stamp, seconds)

    def _find(self, shown: Shown, find: Callable[[_Answers, bytes], Checked | None]) -> Checked | None:
        if shown.name is None:
            key = self.key_of(shown)
            return find(self._tokens, key) or find(self._tokens_of_nobody, key)
        if may_be_token(shown.secret):
            found = self._find(Shown(None, shown.secret), find)
            # a registry token stands in no password's place
            if found is not None and found.credential.scopes is None:
                return found
        return find(self._passwords, self.key_of(shown))

    def _digest(self, header: str) -> bytes:
        return hashlib.blake2b(header.encode("utf-8", "surrogateescape"), key=self._key, digest_size=16).digest()

    def _kind(self, shown: Shown, credential: Credential) -> _Answers:
        if shown.name is not None:
            return self._passwords
        return self._tokens if credential.account or credential.workload else self._tokens_of_nobody
