"""Text from outside, made safe for terminals and for log lines: no control characters, no credentials."""

from __future__ import annotations

import re

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


def _spell_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
