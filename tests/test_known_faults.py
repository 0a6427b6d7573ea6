"""Each fault in the table of docs/security.md has tests that have its identifier in their names, and are collected."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.rooms import ROOT

SECTION = (ROOT / "docs" / "security.md").read_text().partition("\n## Faults of others\n")[2].partition("\n## ")[0]
IDENTIFIER = re.compile(r"CVE-\d+-\d+|GHSA(?:-\w{4}){3}|PROJQUAY-\d+|^[a-z][\w-]*")

EXPECTED = [
    "CVE-2025-24976",
    "CVE-2026-27962",
    "CVE-2025-59420",
    "CVE-2026-44428",
    "CVE-2026-33540",
    "CVE-2026-35172",
    "CVE-2026-41888",
    "CVE-2024-39897",
    "GHSA-c9p4-xwr9-rfhx",
    "CVE-2026-31801",
    "CVE-2022-31667",
    "CVE-2022-31669",
    "CVE-2022-31670",
    "CVE-2024-22278",
    "CVE-2026-4404",
    "CVE-2019-16097",
    "harbor-robot",
    "CVE-2026-32589",
    "PROJQUAY-10504",
    "CVE-2026-2376",
    "CVE-2026-0600",
    "CVE-2026-27771",
    "CVE-2026-24791",
    "gitlab-426887",
    "CVE-2022-31027",
    "CVE-2024-41942",
    "CVE-2026-40864",
    "CVE-2026-40934",
    "CVE-2024-28179",
    "CVE-2026-34052",
    "CVE-2026-3199",
    "CVE-2024-6915",
    "CVE-2026-40264",
    "CVE-2021-39159",
    "CVE-2020-15157",
    "CVE-2021-41190",
    "CVE-2024-28233",
    "conda-store",
    "enumeration-by-timing",
    "session-fixation",
    "clickjacking-and-script",
    "open-redirect",
    "fuzz",
    "flood-of-names",
    "quota",
    "wrong-page",
    "largest-manifest",
    "lying-length",
    "slow",
    "password-hash-on-every-request",
]
"""What has to be in the table, so that a row that is lost is missed."""


def rows() -> dict[str, list[str]]:
    """The modules of tests by identifier."""
    found: dict[str, list[str]] = {}
    for line in SECTION.splitlines():
        if line.startswith("|") and line.endswith(".py |"):
            fault, _, tests = (cell.strip() for cell in line.strip("|").split("|"))
            for identifier in IDENTIFIER.findall(fault):
                found[identifier] = tests.split(", ")
    return found


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """`module::test` of all tests of the modules in the table, without their parameters."""
    modules = sorted({f"tests/{module}" for modules in rows().values() for module in modules})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line}


def test_no_fault_is_lost() -> None:
    assert sorted(rows()) == sorted(EXPECTED)


@pytest.mark.parametrize("fault", EXPECTED)
def test_a_fault_has_tests_of_its_name(collected: set[str], fault: str) -> None:
    *family, last = fault.lower().split("-")
    # several of one year stand in one name, which says the year once
    name = re.compile(rf"_{'_'.join(family)}(?:_\d+)*_{last}(?:_|$)" if family else rf"_{last}(?:_|$)")
    for module in rows()[fault]:
        names = [each.rpartition("::")[2] for each in collected if each.startswith(f"tests/{module}::")]
        assert any(map(name.search, names)), f"{module} has no test named after {fault}"
