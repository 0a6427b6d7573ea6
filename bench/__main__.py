"""`python -m bench`: run every measurement, print a table, write it as JSON; exit 1 if a figure misses its aim."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import access
from bench.builds import archive, bad_builds, build, flood, logs, named, on_disk, pulling, pypi, wheels
from bench.row import Row
from bench.serving import credentials, environments, http, packages, registries, sign_ins

SUITES: dict[str, Callable[..., list[Row]]] = {
    "access": access.measure,
    "build": build.measure,
    "archive": archive.measure,
    "on_disk": on_disk.measure,
    "named": named.measure,
    "http": http.measure,
    "bad_builds": bad_builds.measure,
    "flood": flood.measure,
    "registries": registries.measure,
    "credentials": credentials.measure,
    "sign_ins": sign_ins.measure,
    "packages": packages.measure,
    "environments": environments.measure,
    "pulling": pulling.measure,
    "wheels": wheels.measure,
    "logs": logs.measure,
    "pypi": pypi.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], help="default: all")
    parser.add_argument("--short", action="store_true", help="smaller inputs and fewer repetitions, as in CI")
    parser.add_argument("--report-only", action="store_true", help="exit 0 whatever the figures are")
    parser.add_argument("--output", type=Path, default=Path("results/bench.json"))
    chosen = parser.parse_args(arguments)
    rows = [row for name in chosen.suites or SUITES for row in SUITES[name](short=chosen.short)]
    Console(width=180).print(table(rows))
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    chosen.output.write_text(json.dumps({"machine": machine, "rows": [row.to_json() for row in rows]}, indent=2))
    return 0 if chosen.report_only or all(row.holds for row in rows) else 1


def table(rows: Sequence[Row]) -> Table:
    result = Table(title="condery, measured")
    for heading in ("measured", "value", "peer", "its value", "figure", "must", "", "note"):
        result.add_column(heading, overflow="fold")
    for row in rows:
        result.add_row(
            row.name,
            f"{row.value:,.3g} {row.unit}" if row.value < 1000 else f"{row.value:,.0f} {row.unit}",
            row.peer,
            "" if row.peer_value is None else f"{row.peer_value:,.4g}",
            f"{row.figure:,.3g}",
            f"{row.bound} {row.must:g}",
            "ok" if row.holds else "NOT MET",
            row.note,
        )
    return result


if __name__ == "__main__":
    sys.exit(main())
