"""Keys: the sha256 of a canonical JSON document. Every key in condery is made here, so that no two forms can exist."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(document: Any) -> bytes:
    """Write `document` as UTF-8 JSON with sorted names and no white space. Equal documents give equal bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def make_key(kind: str, document: Any) -> str:
    """Make a key of 64 hex digits for `document`. Keys of different kinds never coincide."""
    return hashlib.sha256(canonical_json([kind, document])).hexdigest()
