"""What the suite found out, from the JUnit file that it writes."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree as ET

SUITE_NAME = "OCI Conformance Test"


@dataclass(frozen=True)
class Check:
    name: str
    reason: str


@dataclass(frozen=True)
class Report:
    """`passed` and so on are the suite's own counts, which are above those of the checks that it names:
    one check may count several times."""

    passed: int
    failed: int
    unsupported: int
    disabled: int
    failures: tuple[Check, ...]
    gaps: tuple[Check, ...]
    """Checks that the suite skipped because the registry declined: a blob not mounted, a range not served."""

    @property
    def holds(self) -> bool:
        return self.passed > 0 and self.failed == 0 and not self.failures

    def summary(self) -> str:
        """The counts on a line, then every check that failed or was declined, with the reason."""
        lines = [
            f"{self.passed} passed, {self.failed} failed, {self.unsupported} skipped, "
            f"{self.disabled} not of this version"
        ]
        for word, checks in (("FAILED", self.failures), ("skipped", self.gaps)):
            for check in checks:
                lines += [f"{word}  {check.name}", *(f"        {line}" for line in check.reason.splitlines())]
        return "\n".join(lines)


def read_report(junit: str) -> Report:
    root = ET.fromstring(junit)
    counts = {name: int(root.get(name, 0)) for name in ("tests", "failures", "errors", "skipped", "disabled")}
    failed = counts["failures"] + counts["errors"]
    return Report(
        passed=counts["tests"] - failed - counts["skipped"] - counts["disabled"],
        failed=failed,
        unsupported=counts["skipped"],
        disabled=counts["disabled"],
        failures=_checks(root, "failure", "error"),
        # what a version does not have is skipped as well, but without a reason
        gaps=tuple(check for check in _checks(root, "skipped") if check.reason),
    )


def _checks(root: ET.Element, *statuses: str) -> tuple[Check, ...]:
    return tuple(
        Check(case.get("name", "").removeprefix(f"{SUITE_NAME}/"), case.findtext("system-out", "").strip())
        for case in root.iter("testcase")
        if case.get("status") in statuses
    )
