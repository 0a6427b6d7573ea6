"""Whether the shell of an image can run activation scripts.

conda sources them into bash or zsh, so many are written for bash only. /bin/sh of Debian and Alpine is another shell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from builder.packages.starting_files import StartingFile, list_some

_COMMENT = re.compile(r"(?m)(^|[ \t;])#.*$")
_START = r"(?:^|[;&|({!]|\b(?:if|then|else|elif|do|while|until)\b)[ \t]*"
_BASH = re.compile(
    "|".join(
        (
            _START + r"(?:\[\[[ \t]|\(\(|for[ \t]*\(\()",
            _START + r"(?:source|function|declare|typeset|shopt|pushd|popd|mapfile|readarray|let|select|compgen)[ \t]",
            r"\blocal[ \t]+-",
            r"\bexport[ \t]+-f",
            r"\b(?:read[ \t]+-[a-z]*a|printf[ \t]+-v)\b",
            r"(?:^|[ \t;(])[A-Za-z_][A-Za-z0-9_]*(?:\+=|=\()",  # arrays, and appending to a variable
            r"\$\{[!]?[A-Za-z_][A-Za-z0-9_]*(?:\[|/|\^|,|@[A-Za-z]\}|:[ \t]*[-(]?[ \t]*[0-9$(])",
            r"\$\{![A-Za-z_]",
            r"\$\{?BASH",
            r"\$'",
            r"<<<|[<>]\(|&>|\|&",
            r"\[[ \t][^\n\]]{0,300}[ \t]==[ \t]",
        )
    ),
    re.MULTILINE,
)
_SHEBANG = re.compile(r"#![^\n]*\b(?:bash|zsh)\b")


def needs_bash(script: bytes) -> bool:
    """Whether `script` says that it is for bash, or uses something that a POSIX shell does not know.

    The script is not parsed as a program: text inside a string counts too, and a construct assembled from strings is
    missed.
    """
    text = script.decode("utf-8", "replace").replace("\\\n", " ")
    return bool(_SHEBANG.match(text) or _BASH.search(_COMMENT.sub("", text)))


def find_activation_problems(scripts: Iterable[StartingFile], shell: str | None) -> list[str]:
    """Describe the scripts that `shell`, an absolute path or None, cannot run."""
    there = [script for script in scripts if script.content is not None]
    if shell is None:
        unable, reason = there, "activation scripts are not run because there is no shell; add bash to the environment"
    elif shell.endswith("/bash"):
        return []
    else:
        unable = [script for script in there if needs_bash(script.content or b"")]
        reason = "activation scripts are written for bash, which is missing; add bash to the environment"
    return [f"{reason}: {list_some(script.package for script in unable)}"] if unable else []
