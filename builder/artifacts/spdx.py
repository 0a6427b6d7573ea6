"""A lock as an SPDX 2.3 document in JSON (spdx-spec v2.3): its environments, their packages, and what needs what.

A pure function; its time is that of the newest package, so that equal locks give equal bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from builder.artifacts.materials import Material, list_materials, list_own_licenses, write_license
from builder.locks.description import describe_spec, find_newest, format_time, suggest_name
from builder.locks.lock import Lock
from storage.catalog.locks import TAG_DIGITS

_DOCUMENT = "SPDXRef-DOCUMENT"
_NO_ASSERTION = "NOASSERTION"
_FORBIDDEN = re.compile(r"[^A-Za-z0-9.-]+")
_LOCATION = re.compile(r"https?://[A-Za-z0-9.:-]+/[A-Za-z0-9./%~_!+=:@-]*")
"""Addresses that every validator takes for one."""


def write_spdx(lock: Lock) -> bytes:
    """Write all platforms of `lock` as one document."""
    materials = list_materials(lock)
    ids = {each.package.url: _make_id("Package", number, each) for number, each in enumerate(materials)}
    packages = [each.package for each in materials]
    name = f"{suggest_name(lock.spec)}-{lock.key[:TAG_DIGITS]}"
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": name,
        # as the specification proposes for those who own no website
        "documentNamespace": f"https://spdx.org/spdxdocs/condery-lock-{lock.key}",
        "creationInfo": {"created": format_time(find_newest(packages)), "creators": ["Tool: condery"]},
        "packages": [
            *(_write_environment(lock, platform) for platform in lock.packages),
            *(_write_package(each, ids[each.package.url]) for each in materials),
        ],
        "hasExtractedLicensingInfos": _write_own_licenses(materials),
        "relationships": list(_write_relationships(lock, materials, ids)),
    }
    return json.dumps(document, indent=1).encode()


def _make_id(kind: str, number: int, material: Material) -> str:
    return f"SPDXRef-{kind}-{number}-{_FORBIDDEN.sub('-', str(material.package))}"


def _name_environment(platform: str) -> str:
    return f"SPDXRef-Environment-{_FORBIDDEN.sub('-', platform)}"


def _write_environment(lock: Lock, platform: str) -> dict[str, Any]:
    return {
        "SPDXID": _name_environment(platform),
        "name": suggest_name(lock.spec),
        "versionInfo": f"lock-{lock.key}",
        "summary": f"A conda environment for {platform}: {describe_spec(lock.spec)}",
        "downloadLocation": _NO_ASSERTION,
        "filesAnalyzed": False,
    }


def _write_package(material: Material, identifier: str) -> dict[str, Any]:
    package = material.package
    hashes = (("SHA256", package.sha256), ("MD5", package.md5))
    written = write_license(package.license)
    document = {
        "SPDXID": identifier,
        "name": package.title,
        "versionInfo": package.version,
        "packageFileName": package.file_name,
        "supplier": f"Organization: {package.channel}",
        "downloadLocation": package.url if _LOCATION.fullmatch(package.url) else _NO_ASSERTION,
        "filesAnalyzed": False,
        "checksums": [{"algorithm": name, "checksumValue": value} for name, value in hashes if value],
        "licenseConcluded": _NO_ASSERTION,
        "licenseDeclared": written or _NO_ASSERTION,
        "copyrightText": _NO_ASSERTION,
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": material.purl}
        ],
    }
    if package.license and written is None:
        document["licenseComments"] = f"The channel says: {package.license}"
    return document


def _write_own_licenses(materials: Sequence[Material]) -> list[dict[str, str]]:
    texts: dict[str, str] = {}
    for material in materials:
        text = material.package.license
        if text and write_license(text) is not None:
            for name in list_own_licenses(text):
                texts.setdefault(name, f"The channel says: {text}")
    return [{"licenseId": name, "extractedText": text} for name, text in sorted(texts.items())]


def _write_relationships(lock: Lock, materials: Sequence[Material], ids: Mapping[str, str]) -> Iterator[dict[str, str]]:
    for platform in lock.packages:
        yield _relate(_DOCUMENT, "DESCRIBES", _name_environment(platform))
    for material in materials:
        for platform in material.platforms:
            yield _relate(_name_environment(platform), "CONTAINS", ids[material.package.url])
    for material in materials:
        for url in material.needs:
            yield _relate(ids[material.package.url], "DEPENDS_ON", ids[url])


def _relate(subject: str, kind: str, related: str) -> dict[str, str]:
    return {"spdxElementId": subject, "relationshipType": kind, "relatedSpdxElement": related}
