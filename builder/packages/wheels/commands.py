"""The commands of a wheel: what its `entry_points.txt` says, and the scripts that installers write for it.

Scripts are byte for byte those of uv (`crates/uv-install-wheel/src/wheel.rs`). Names of modules and functions are
written into code, so each of them has to be an identifier.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from builder.errors import PackageRefused
from builder.packages.contents import EntryPoint, PythonLayout
from storage.errors import quote

_MOST = 10_000
_LONGEST_LINE = 1024
_LONGEST_COMMAND = 200
"""Bytes: of a file's name there may be 255."""
_COMMAND = re.compile(r"[^/\\\0\s.][^/\\\0\n\r]*")
_VALUE = re.compile(r"(?P<module>[\w.]+)\s*:\s*(?P<function>[\w.]+)\s*(\[[^\]]*\]\s*)?")
_RESERVED = re.compile(
    r"(pythonw?|python[23](\.\d+t?)?|pythonw3(\.\d+t?)?|graalpy|pypy[23]?)(\.py)?"
    r"|sh|bash|dash|env|(de)?activate([._].*)?|conda-unpack"
)
"""Programs that find or start an environment. uv refuses the interpreters."""
_LONGEST_SHEBANG = 127


def read_commands(package: str, content: bytes) -> list[EntryPoint]:
    """Read the commands in a wheel's `entry_points.txt`, those with a window last. Raises PackageRefused."""
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise PackageRefused(package, "its entry_points.txt is not UTF-8") from None
    found: dict[str, dict[str, EntryPoint]] = {"console_scripts": {}, "gui_scripts": {}}
    for section, line in _list_lines(package, lines):
        if section in found:
            entry = _parse(package, line)
            found[section][entry.command] = entry
    entries = found["console_scripts"] | found["gui_scripts"]
    if len(entries) > _MOST:
        raise PackageRefused(package, f"it has {len(entries)} commands; at most {_MOST} are allowed")
    return list(entries.values())


def _list_lines(package: str, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each line with its section."""
    section = ""
    indentation = 0
    for line in lines:
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        depth = len(line) - len(line.lstrip())
        if stripped.startswith("["):
            section, indentation = stripped.removeprefix("[").removesuffix("]").strip(), 1 << 30
            continue
        if depth > indentation and section in ("console_scripts", "gui_scripts"):
            raise PackageRefused(package, f"its entry_points.txt has a value of several lines: {quote(stripped, 80)}")
        indentation = depth
        yield section, stripped


def _parse(package: str, line: str) -> EntryPoint:
    command, equals, value = (part.strip() for part in line.partition("="))
    match = _VALUE.fullmatch(value)
    if (
        len(line) > _LONGEST_LINE
        or not equals
        or not match
        or not _COMMAND.fullmatch(command)
        or not command.isprintable()
        or len(command.encode("utf-8", "replace")) > _LONGEST_COMMAND
        or not all(part.isidentifier() for name in match.group("module", "function") for part in name.split("."))
    ):
        raise PackageRefused(
            package, f"its entry point {quote(line, 120)} does not have the form command = module:function"
        )
    return EntryPoint(command, match["module"], match["function"])


def complete_commands(entries: Sequence[EntryPoint], python: PythonLayout) -> list[EntryPoint]:
    """Return the commands for `python`. pip's own wheel has one for the python that made it, which uv replaces."""
    kept = [entry for entry in entries if not re.fullmatch(r"pip3\.\d+", entry.command)]
    own = next((entry for entry in kept if entry.command == "pip3"), None)
    return [*kept, own._replace(command=f"pip{python.version}")] if own else kept


def check_scripts(package: str, paths: Iterable[str]) -> None:
    """Raises PackageRefused for a program whose name decides what an environment starts."""
    for path in paths:
        if path.startswith("bin/") and _RESERVED.fullmatch(path[4:].lower().removesuffix(".exe")):
            raise PackageRefused(package, f"it has the program {path}, which belongs to the environment itself")


def write_command(entry: EntryPoint, prefix: str | None) -> bytes:
    """Write the script of a command. Without a prefix it finds its interpreter through `env`."""
    return (
        f"{_write_shebang(prefix)}\n"
        "# -*- coding: utf-8 -*-\n"
        "import sys\n"
        f"from {entry.module} import {entry.function.partition('.')[0]}\n"
        'if __name__ == "__main__":\n'
        '    if sys.argv[0].endswith("-script.pyw"):\n'
        "        sys.argv[0] = sys.argv[0][:-11]\n"
        '    elif sys.argv[0].endswith(".exe"):\n'
        "        sys.argv[0] = sys.argv[0][:-4]\n"
        f"    sys.exit({entry.function}())\n"
    ).encode()


def find_script(start: bytes) -> int | None:
    """Return where the second line of a script begins whose first names its interpreter as `#!python`.

    Returns None for another file. `start` is the file's first piece, of at least a few kilobytes.
    """
    match = re.match(rb"#!python[^\r\n]*(\r\n|\r|\n)?", start)
    return match.end() if match else None


def write_shebang(prefix: str | None) -> bytes:
    """Write the first line of a script, or more if the kernel does not take it. Without a prefix `env` is asked."""
    return f"{_write_shebang(prefix)}\n".encode()


def _write_shebang(prefix: str | None) -> str:
    if prefix is None:
        return "#!/usr/bin/env python"
    interpreter = f"{prefix}/bin/python"
    if len(interpreter.encode()) + 3 > _LONGEST_SHEBANG or " " in interpreter:
        escaped = interpreter.replace("'", "'\"'\"'")
        return f"#!/bin/sh\n'''exec' '{escaped}' \"$0\" \"$@\"\n' '''"
    return f"#!{interpreter}"
