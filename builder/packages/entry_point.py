"""The scripts for the commands of noarch packages."""

from __future__ import annotations

from builder.packages.contents import EntryPoint, PythonLayout


def write_entry_point(entry: EntryPoint, prefix: str, python: PythonLayout) -> bytes:
    """Write the script of a command, byte for byte like rattler's `install/entry_point.rs`."""
    interpreter = f"{prefix}/bin/python{python.version}"
    if len(interpreter.encode()) > 125 or " " in interpreter:
        first = f"#!/bin/sh\n'''exec' \"{interpreter}\" \"$0\" \"$@\" #'''"
    else:
        first = f"#!{interpreter}"
    return (
        f"{first}\n"
        "# -*- coding: utf-8 -*-\n"
        "import re\n"
        "import sys\n\n"
        f"from {entry.module} import {entry.function.partition('.')[0]}\n\n"
        "if __name__ == '__main__':\n"
        "\tsys.argv[0] = re.sub(r'(-script\\.pyw?|\\.exe)?$', '', sys.argv[0])\n"
        f"\tsys.exit({entry.function}())\n"
    ).encode()
