"""`python -m tests.support.prepare`: build and fetch at once what tests would build and fetch when they come to it.

What cannot be had is told, and nothing else: the tests that need it say what that means.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

from builder.sample_channel import WheelsUnavailable
from tests.conformance.suite import conformance_program
from tests.support.conda_store import ClientUnavailable, install_command_line, interface_directory
from tests.support.go_programs import GoProgramUnavailable, go_program
from tests.support.npm_packages import NpmPackageUnavailable
from tests.support.programs import CRANE, ORAS
from tests.support.sample import sample_channel
from tests.support.servers import s3_gateway
from tests.support.servers.distribution import distribution_3
from tests.support.servers.providers.oidc_provider import install_provider

NEEDED: Mapping[str, Callable[[], object]] = {
    "sample channel": sample_channel,
    "OpenID Connect provider": install_provider,
    "conda-store's command line": install_command_line,
    "conda-store's web interface": interface_directory,
    "conformance suite": conformance_program,
    "crane": lambda: go_program(*CRANE),
    "oras": lambda: go_program(*ORAS),
    "versitygw": lambda: go_program(s3_gateway.PACKAGE, s3_gateway.VERSIONS),
    "distribution": distribution_3,
}


def main() -> None:
    for name, get in NEEDED.items():
        begun = time.monotonic()
        try:
            get()
        except (GoProgramUnavailable, NpmPackageUnavailable, ClientUnavailable, WheelsUnavailable) as error:
            sys.stderr.write(f"{name}: {error}\n")
        else:
            sys.stderr.write(f"{name}: {time.monotonic() - begun:.0f} s\n")


if __name__ == "__main__":
    main()
