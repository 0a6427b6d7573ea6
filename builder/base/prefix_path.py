"""Where in an image an environment may be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from builder.errors import PrefixUnsuitable

if TYPE_CHECKING:
    from builder.base.vocabulary import BaseImage

_FORM = re.compile(r"(/[^/\x00-\x20\x7f:]+)+")
_MOUNTED = ("/dev", "/proc", "/sys")


def find_prefix_problem(prefix: str) -> str | None:
    """Return why no environment can be at `prefix`, and what to write instead; None if it can be there."""
    example = "write an absolute path such as /opt/conda"
    if prefix == "/":
        return f"the environment cannot be the root directory; {example}"
    if not prefix.startswith("/"):
        return f"it must be absolute; {example}"
    if not _FORM.fullmatch(prefix) or any(part in (".", "..") or part.startswith(".wh.") for part in prefix.split("/")):
        return f"it must be a plain path, without a trailing slash, //, . or .., blanks or colons; {example}"
    if f"{prefix}/".startswith(tuple(f"{path}/" for path in _MOUNTED)):
        return f"a running container has its own {prefix[:5].rstrip('/')} there; {example}"
    return None


def check_prefix(prefix: str, base: BaseImage) -> None:
    """Raises PrefixUnsuitable if no environment can be at `prefix` over `base`."""
    if reason := find_prefix_problem(prefix):
        raise PrefixUnsuitable(prefix, reason)
    parts = prefix.split("/")
    paths = ["/".join(parts[:count]) for count in range(2, len(parts) + 1)]
    if link := next((path for path in paths if path in base.links), None):
        raise PrefixUnsuitable(
            prefix,
            f"{link} is a symbolic link in the base {base.reference}; use the path that it leads to, or /opt/conda",
        )
