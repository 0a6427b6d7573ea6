"""Access tokens in conda-store's form, a JWT, for clients that expect one.

The text is signed and says what it is for, as conda-store's does, but nothing is read from it when it comes back: what
counts is the row that has its hash, as with every access token, so it is listed and revoked like one.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from auth.tokens.registry_tokens import ALGORITHM, ISSUER
from auth.tokens.signing_keys import SigningKey
from storage import strict_json
from storage.errors import JsonInvalid

TYPE = "api+jwt"
AUDIENCE = "condery-api"
LONGEST = 16384
"""Characters."""


def write_api_token(
    key: SigningKey,
    token_id: str,
    namespace: str,
    role_bindings: Mapping[str, Sequence[str]],
    created: float,
    expires: float,
) -> str:
    """The text of the access token `token_id`. Times are UNIX seconds.

    In the event loop, wait until `jwt` is imported (`auth.late`).
    """
    import jwt

    assert key.private is not None, "it signs"
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "jti": token_id,
        "iat": int(created),
        "exp": int(expires),
        "primary_namespace": namespace,
        "role_bindings": role_bindings,
    }
    return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"kid": key.kid, "typ": TYPE})


def is_api_token(text: str) -> bool:
    """Whether it says so; that anybody can write."""
    if len(text) > LONGEST or not text.isascii() or text.count(".") != 2:
        return False
    header = text.partition(".")[0]
    try:
        document = strict_json.parse(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)), depth=1)
    except (JsonInvalid, ValueError):
        return False
    return isinstance(document, dict) and document.get("typ") == TYPE
