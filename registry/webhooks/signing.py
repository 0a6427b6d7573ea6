"""Signs posts to webhooks, so that receivers know who sent them and when.

The signature is HMAC-SHA256 (RFC 2104) over the time as UNIX seconds, a dot, and the body. It covers the time, so a
recorded post is useless later if the receiver refuses posts that are minutes old.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from storage.errors import ConderyError

SIGNATURE = "X-Condery-Signature-256"
TIMESTAMP = "X-Condery-Timestamp"

SHORTEST_SECRET = 16


class SecretInvalid(ConderyError):
    is_mistake = True

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"webhook_secret_file {path}: {reason}")


def sign(secret: bytes, now: int, body: bytes) -> dict[str, str]:
    """The headers for `body`, sent at `now` (UNIX seconds)."""
    mac = hmac.new(secret, f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    return {TIMESTAMP: str(now), SIGNATURE: f"sha256={mac}"}


def read_secret(path: Path) -> bytes:
    """The content of the file, without the line's end; raises SecretInvalid."""
    try:
        secret = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise SecretInvalid(path, error.strerror or "it cannot be read") from error
    if len(secret) < SHORTEST_SECRET:
        raise SecretInvalid(path, f"it needs {SHORTEST_SECRET} characters; `openssl rand -hex 32` makes a good one")
    return secret
