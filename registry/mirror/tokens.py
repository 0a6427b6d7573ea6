"""What a registry demands: nothing, a login, or a token (distribution, "Token Authentication Specification")."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yarl import URL

from builder.network.organisation import are_of_one
from builder.remote.logins import Login
from registry.mirror.errors import UpstreamFailed
from registry.mirror.names import Source
from storage.errors import quote
from storage.text import Sent

TOKEN_SECONDS = 60.0
"""How long a token is valid if it does not say so."""

LONGEST = 24 * 3600.0
"""The longest that any token is used, whatever its server says."""

EARLY_SECONDS = 10.0
"""How long before its end a token is no longer used: a request takes a while, and clocks differ."""

_PARAMETER = re.compile(r'([A-Za-z]{1,20})="([^"]*)"')


@dataclass(frozen=True)
class Challenge:
    """What a 401 answer asks for; `realm` is only set for a token."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


@dataclass(frozen=True)
class Grant:
    """The value of an Authorization header, valid for `seconds`. Its repr hides it."""

    header: str
    seconds: float = math.inf

    def __repr__(self) -> str:
        return "Grant()"

    @property
    def sent(self) -> Sent:
        """What of it must not be shown."""
        return Sent(self.header.partition(" ")[2])


def read_challenge(headers: Sequence[str]) -> Challenge | None:
    """The WWW-Authenticate header that can be met; a token is preferred to a login."""
    by_scheme = {text.strip().partition(" ")[0].lower(): text for text in reversed(headers)}
    if "bearer" in by_scheme:
        # not oras's, which takes what follows an empty value for that value
        found = dict(_PARAMETER.findall(by_scheme["bearer"]))
        return Challenge("bearer", found.get("realm", ""), found.get("service", ""), found.get("scope", ""))
    return Challenge("basic") if "basic" in by_scheme else None


def basic(login: Login) -> Grant:
    return Grant(f"Basic {base64.b64encode(f'{login.username}:{login.password}'.encode()).decode()}")


def token_url(source: Source, challenge: Challenge) -> URL:
    """The URL that issues the token. Raises UpstreamFailed."""
    try:
        realm = URL(challenge.realm)
    except ValueError:
        raise UpstreamFailed(source.registry, "names an invalid token server") from None
    if not realm.scheme or not realm.host:
        raise UpstreamFailed(source.registry, f"names {quote(challenge.realm)} as its token server, which is no URL")
    query = {"scope": challenge.scope or f"repository:{source.repository}:pull"}
    if challenge.service:
        query["service"] = challenge.service
    return realm.update_query(query)


def check_login(source: Source, realm: URL) -> None:
    """Raise UpstreamFailed unless the token server may see the registry's password.

    The registry names that server, and so could anybody who controls its answers.
    """
    home, host = URL(f"//{source.api}").host or "", realm.host or ""
    if not are_of_one(host, home):
        raise UpstreamFailed(source.registry, f"asks to send its login to {host}, which belongs to somebody else")


def read_token(source: Source, document: Any) -> Grant:
    """Read the grant from a token server's answer. Raises UpstreamFailed."""
    fields: Mapping[str, Any] = document if isinstance(document, dict) else {}
    token = fields.get("token") or fields.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise UpstreamFailed(source.registry, "gave no token")
    seconds = fields.get("expires_in")
    lifetime = float(min(seconds, LONGEST)) if isinstance(seconds, int | float) and seconds > 0 else TOKEN_SECONDS
    return Grant(f"Bearer {token}", max(lifetime - EARLY_SECONDS, lifetime / 2))
