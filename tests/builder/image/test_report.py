"""A build's report as it is stored, which `condery explain --json` prints, and as it is read again."""

from __future__ import annotations

import json
from typing import Any

from builder.image.report import BuildReport, LayerReport, PlatformReport
from builder.packages.overlap import Overlap
from storage.digest import Digest

DIGEST = Digest("sha256:" + "0" * 64)
REPORT = BuildReport(
    {"solve": 0.123456, "layers": 1.0},
    {
        "linux-64": PlatformReport(
            layers=(LayerReport(DIGEST, 30, (("a-1-0", 10), ("b-1-0", 15))), LayerReport(DIGEST, 5)),
            overlaps=(Overlap("bin/x", "a-1-0", ("b-1-0",)),),
            scripts={"a-1-0": ["bin/.a-post-link.sh"]},
            warnings=("no shell",),
            variables=("sets nothing",),
            differences={"b-1-0": ["lib/y is missing"]},
        )
    },
)
DOCUMENT: dict[str, Any] = {
    "seconds": {"solve": 0.1235, "layers": 1.0},
    "platforms": {
        "linux-64": {
            "layers": [
                {
                    "digest": DIGEST,
                    "size": 30,
                    "packages": [{"name": "a-1-0", "size": 10}, {"name": "b-1-0", "size": 15}],
                },
                {"digest": DIGEST, "size": 5, "packages": []},
            ],
            "overlaps": [{"path": "bin/x", "winner": "a-1-0", "losers": ("b-1-0",)}],
            "scripts": {"a-1-0": ["bin/.a-post-link.sh"]},
            "warnings": ["no shell"],
            "variables": ["sets nothing"],
            "differences": {"b-1-0": ["lib/y is missing"]},
        }
    },
}


def test_it_is_stored_as_it_always_was() -> None:
    assert REPORT.to_json() == DOCUMENT


def test_what_is_stored_is_read_again() -> None:
    stored = json.loads(json.dumps(DOCUMENT))
    assert json.loads(json.dumps(BuildReport.from_json(stored).to_json())) == stored


def test_a_report_of_an_older_version_has_no_notes() -> None:
    [platform] = json.loads(json.dumps(DOCUMENT))["platforms"].values()
    for name in ("warnings", "variables", "differences"):
        del platform[name]
    read = PlatformReport.from_json(platform)
    assert (read.warnings, read.variables, read.differences) == ((), (), {})
    assert read.layers == REPORT.platforms["linux-64"].layers
