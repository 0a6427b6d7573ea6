"""Text from outside, made safe for terminals and for log lines: no control characters, no credentials.

A server may repeat what it got. A secret that it was sent is found in its words as it is, percent-encoded, escaped for
JSON or HTML, or in base64 as a part of a longer text, such as the login of a header. Whatever else a host makes of it
on purpose is not found.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import quote, quote_plus, unquote

# C0 without tab and line feed, DEL and C1; marks that change the direction of writing; separators of lines and
# paragraphs; surrogates, which UTF-8 cannot encode
_UNSAFE = "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff\\ud800-\\udfff"
_CONTROLS = re.compile(f"[{_UNSAFE}]")
_CONTROLS_AND_BREAKS = re.compile(f"[\\n\\t{_UNSAFE}]")

SPACES = " \t"
"""The white space of HTTP (RFC 9110, section 5.6.3). Python strips Unicode's too, which would make one name of two."""

HIDDEN = "***"
"""Stands in place of a secret."""

# A quotation mark ends both: in a line of JSON the next `@` may belong to another value.
_USER = re.compile(r"""(?<=://)[^/@\s"]+@""")
_TOKEN = re.compile(r"""(?<=/t/)[^/\s"']+""")
# access tokens and keys of the vault, which begin with our name, and JSON Web Tokens
_OURS = re.compile(r"(?<=condery_)(?:vault_)?[0-9A-Za-z_-]{40,}")
_JWT = re.compile(r"eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+")

SHORT = 8
"""Characters below which a secret is found in base64 only with its user: fewer are there in other texts by chance."""

_DECODINGS = 3
"""How many times over a text may be percent-encoded."""

_CUT = "..."
_MOST_CUTS = 20
"""Marks of a cut in one text before which a secret is searched for."""

_SHORTEST_CUT = 4
_LONGEST_CUT = 500
"""Characters of a secret before such a mark."""

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{4,}={0,2}")
_TO_STANDARD = str.maketrans("-_", "+/")


def printable(text: str) -> str:
    r"""Write out every control character of `text`, such as `\x1b`; line feeds and tabs stay.

    A terminal obeys control characters, and anybody who names a package or a tag could send them.
    """
    return _CONTROLS.sub(_spell_out, text) if _CONTROLS.search(text) else text


def printable_line(text: str) -> str:
    """Likewise for text that must stay on one line: line feeds and tabs are written out, too."""
    return _CONTROLS_AND_BREAKS.sub(_spell_out, text) if _CONTROLS_AND_BREAKS.search(text) else text


def printable_json(text: str) -> str:
    r"""Write every control character of a JSON document as `\u009b`; its meaning stays the same."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) if _CONTROLS.search(text) else text


def redact(text: str) -> str:
    """Hide `user:password@` and the token of `/t/<token>/` in every URL in `text`, and tokens wherever they are.

    A token can be known by its form: somebody may put it into a name, a tag or a header that is logged.
    """
    if "://" in text:
        text = _TOKEN.sub(HIDDEN, _USER.sub(f"{HIDDEN}@", text))
    if "condery_" in text:
        text = _OURS.sub(HIDDEN, text)
    if "eyJ" in text:
        text = _JWT.sub(HIDDEN, text)
    return text


@dataclass(frozen=True)
class Sent:
    """A secret, and the user that it was sent with, if any. Neither is in its repr."""

    secret: str = field(repr=False)
    username: str = field(default="", repr=False)

    @cached_property
    def forms(self) -> frozenset[str]:
        """How it may be written."""
        plain = self.secret
        encoded = base64.b64encode(self._pair).decode()
        escaped = {json.dumps(plain, ensure_ascii=ascii_alone)[1:-1] for ascii_alone in (True, False)}
        return frozenset(
            {
                plain,
                # its bytes, read as the characters that headers have
                plain.encode(errors="replace").decode("latin-1"),
                quote(plain, safe="", errors="replace"),
                quote(plain, errors="replace"),
                quote_plus(plain, errors="replace"),
                html.escape(plain),
                repr(plain)[1:-1],
                *escaped,
                *(each.replace("/", "\\/") for each in escaped),
                *((encoded, encoded.rstrip("="), quote(encoded, safe="")) if self._in_base64 else ()),
            }
        )

    @cached_property
    def _pair(self) -> bytes:
        return f"{self.username}:{self.secret}".encode(errors="replace")

    @cached_property
    def _in_base64(self) -> bytes:
        """What tells that a text in base64 has it; empty for a short one without a user."""
        if len(self.secret) >= SHORT:
            return self.secret.encode(errors="replace")
        return self._pair if self.username else b""

    def is_in(self, decoded: bytes) -> bool:
        """Whether a text that was in base64 has it."""
        return bool(self._in_base64) and self._in_base64 in decoded


def hide(text: str, sent: Collection[Sent]) -> str:
    """`text` without the secrets; where one was encoded, it may be decoded."""
    sent = [each for each in sent if each.secret]
    if not sent or not text:
        return text
    shown = decoded = _hide_plain(text, sent)
    for _ in range(_DECODINGS):
        # byte for byte, as `Sent.forms` has it
        decoded = unquote(decoded, "latin-1")
        if (found := _hide_plain(decoded, sent)) != decoded:
            shown = decoded = found
    return shown


def _hide_plain(text: str, sent: Collection[Sent]) -> str:
    # the longest first: a shorter one could be a part of it
    for form in sorted({form for each in sent for form in each.forms}, key=len, reverse=True):
        text = text.replace(form, HIDDEN)
        text = _hide_before_cuts(text, form)
    return _BASE64.sub(lambda run: HIDDEN if _has_any(run[0], sent) else run[0], text)


def _hide_before_cuts(text: str, form: str) -> str:
    """Likewise the beginning of a form that something cut off, as `storage.errors.quote` does."""
    *pieces, last = text.split(_CUT, _MOST_CUTS)
    return _CUT.join([*(_hide_beginning(each, form) for each in pieces), last])


def _hide_beginning(text: str, form: str) -> str:
    """`text`, at whose end the first characters of `form` are hidden."""
    for length in range(min(len(form) - 1, len(text), _LONGEST_CUT), _SHORTEST_CUT - 1, -1):
        if text.endswith(form[:length]):
            return text[:-length] + HIDDEN
    return text


def _has_any(run: str, sent: Collection[Sent]) -> bool:
    """Whether the characters of `run`, from any of them on, are base64 of a text with one of the secrets."""
    return any(each.is_in(decoded) for decoded in _decode(run) for each in sent)


def _decode(run: str) -> Iterator[bytes]:
    digits = run.rstrip("=").translate(_TO_STANDARD)
    for start in range(4):
        rest = digits[start:]
        # a single digit at the end is no byte
        rest = rest[:-1] if len(rest) % 4 == 1 else rest
        yield base64.b64decode(rest + "=" * (-len(rest) % 4))


def _spell_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
