"""Time zones and certificates as conda packages, from the wheels `tzdata` and `certifi`: the same on every machine."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from builder.errors import SampleChannelFailed
from builder.sample_channel.package import File, Identity, Link, Member, Recipe
from builder.sample_channel.requirements import write_version
from builder.sample_channel.wheel import Wheel

_ZONES = "tzdata/zoneinfo/"
_ACTIVATE = """\
if [ -z "${SSL_CERT_FILE:-}" ]; then
    export SSL_CERT_FILE="${CONDA_PREFIX}/ssl/cacert.pem"
    export _CONDA_SET_SSL_CERT_FILE=1
fi
"""
_DEACTIVATE = """\
if [ -n "${_CONDA_SET_SSL_CERT_FILE:-}" ]; then
    unset SSL_CERT_FILE _CONDA_SET_SSL_CERT_FILE
fi
"""


def make_tzdata_recipe(wheel: Wheel) -> Recipe:
    """Make `tzdata`: the compiled zones in `share/zoneinfo`, with the database's own version (`2026a`)."""
    with zipfile.ZipFile(wheel.path) as archive:
        found = re.search(r'IANA_VERSION = "(\w+)"', archive.read("tzdata/__init__.py").decode())
    if found is None:
        raise SampleChannelFailed(f"{wheel.path.name} does not say its IANA_VERSION")

    def members(_work: Path) -> Iterator[Member]:
        with zipfile.ZipFile(wheel.path) as archive:
            for file in wheel.files:
                if file.member.startswith(_ZONES) and not file.member.endswith(".py"):
                    path = f"share/zoneinfo/{file.member.removeprefix(_ZONES)}"
                    yield File.of(path, archive.read(file.member), file.mtime)

    return Recipe(
        identity=Identity("tzdata", found[1], "noarch", (), wheel.timestamp, "generic", "LicenseRef-Public-Domain"),
        source={"wheel": wheel.path.name, "sha256": wheel.sha256},
        members=members,
        about={"home": "https://www.iana.org/time-zones", "summary": "The time zone database"},
    )


def make_certificates_recipe(wheel: Wheel) -> Recipe:
    """Make `ca-certificates`: certifi's certificates, and activation scripts that point OpenSSL to them."""

    def members(_work: Path) -> Iterator[Member]:
        with zipfile.ZipFile(wheel.path) as archive:
            certificates = archive.read("certifi/cacert.pem")
        name = "ca-certificates_{}.sh"
        yield File.of("ssl/cacert.pem", certificates, wheel.timestamp)
        yield Link("ssl/cert.pem", "cacert.pem")
        activate, deactivate = name.format("activate"), name.format("deactivate")
        yield File.of(f"etc/conda/activate.d/{activate}", _ACTIVATE.encode(), wheel.timestamp)
        yield File.of(f"etc/conda/deactivate.d/{deactivate}", _DEACTIVATE.encode(), wheel.timestamp)

    return Recipe(
        identity=Identity(
            "ca-certificates", write_version(wheel.version), "noarch", (), wheel.timestamp, "generic", wheel.license
        ),
        source={"wheel": wheel.path.name, "sha256": wheel.sha256},
        members=members,
        about={"home": "https://wiki.mozilla.org/CA", "summary": "Certificates of authorities that Mozilla trusts"},
        licenses=wheel.read_licenses(),
    )
