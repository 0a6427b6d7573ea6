"""Keys: the sha256 of a canonical JSON document. Every key of condery is made here, so no two forms can exist."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(document: Any) -> bytes:
    """`document` as UTF-8 JSON with sorted names and no white space; equal documents give equal bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def make_key(kind: str, document: Any) -> str:
    """A key of 64 hex digits for `document`; keys of different kinds never meet."""
    return hashlib.sha256(canonical_json([kind, document])).hexdigest()
