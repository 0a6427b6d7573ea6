"""Whether a failed check gets to whoever reads the summary."""

from __future__ import annotations

import pytest

from tests.conformance.report import Check, read_report

REFERRERS = """header value mismatch for "Content-Type", expected "application/vnd.oci.image.index.v1+json"
unexpected status code, expected one of [200], received 404"""

MOUNT = "registry returned status 202, fell back to blob POST+PUT"

RESULT = f"""<testsuites time="0.2" tests="9" {{counts}}>
  <testsuite name="OCI Conformance Test" tests="9" failures="0" errors="0" disabled="0" skipped="0" time="0.2">
    <properties><property name="Config" value="registry: 127.0.0.1:5000&#xA;tls: disabled&#xA;"></property></properties>
    <testcase name="OCI Conformance Test/ping" classname="" time="0.004" status="passed">
      <system-err>Method: GET&#xA;</system-err>
    </testcase>
    <testcase name="OCI Conformance Test/empty/referrers" classname="" time="0.001" status="{{status}}">
      <system-out>{REFERRERS.replace('"', "&#34;")}</system-out>
      <system-err>Method: GET&#xA;</system-err>
    </testcase>
    <testcase name="OCI Conformance Test/sha256 blobs/mount/blob-mount" classname="" time="0.001" status="skipped">
      <system-out>{MOUNT}</system-out>
    </testcase>
    <testcase name="OCI Conformance Test/sha256 blobs/post cancel" classname="" time="0.001" status="skipped">
      <system-err>skipping test:&#xA;  api Blob upload cancel is disabled in the configuration</system-err>
    </testcase>
  </testsuite>
</testsuites>"""


@pytest.mark.parametrize(
    ("status", "counts"), [("failure", 'failures="2" skipped="3" disabled="1"'), ("error", 'errors="2" skipped="4"')]
)
def test_a_failed_check_is_named_with_its_reason(status: str, counts: str) -> None:
    report = read_report(RESULT.format(status=status, counts=counts))
    assert not report.holds
    assert (report.passed, report.failed) == (3, 2)
    assert report.failures == (Check("empty/referrers", REFERRERS),)
    assert "FAILED  empty/referrers\n        header value mismatch" in report.summary()


def test_what_the_registry_declined_is_named_too() -> None:
    report = read_report(RESULT.format(status="passed", counts='skipped="1" disabled="1"'))
    assert report.holds
    assert (report.passed, report.unsupported, report.disabled) == (7, 1, 1)
    assert report.gaps == (Check("sha256 blobs/mount/blob-mount", MOUNT),)
    assert "skipped  sha256 blobs/mount/blob-mount" in report.summary()


@pytest.mark.parametrize("counts", ['failures="1"', 'errors="1"', 'skipped="9"'])
def test_a_count_alone_is_a_failure_and_so_is_a_run_in_which_nothing_passed(counts: str) -> None:
    assert not read_report(RESULT.format(status="passed", counts=counts)).holds
