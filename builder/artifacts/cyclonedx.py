"""A lock as a CycloneDX 1.6 document in JSON: its packages as components, and what needs what.

A pure function; its time is that of the newest package and its serial number comes from the lock's key, so that equal
locks give equal bytes.
"""

from __future__ import annotations

import json
import uuid
from typing import Any
from urllib.parse import quote

from builder.artifacts.materials import Material, list_materials, write_license
from builder.locks.description import describe_spec, find_newest, format_time, suggest_name
from builder.locks.lock import Lock

_ROOT = "environment"
_OF_ADDRESSES = "%/:?#[]@!$&'()*+,;=~"
"""Characters that an address has as they are (RFC 3986). A folder's may have others, which no validator takes."""


def write_cyclonedx(lock: Lock) -> bytes:
    """Write all platforms of `lock` as one document; `condery:platforms` says which of them have a package."""
    materials = list_materials(lock)
    # the URL tells apart what two channels of one name have
    references = {each.package.url: f"{number}/{each.purl}" for number, each in enumerate(materials)}
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'condery:lock-{lock.key}')}",
        "version": 1,
        "metadata": {
            "timestamp": format_time(find_newest(each.package for each in materials)),
            "tools": {"components": [{"type": "application", "name": "condery"}]},
            "component": {
                "type": "application",
                "bom-ref": _ROOT,
                "name": suggest_name(lock.spec),
                "version": f"lock-{lock.key}",
                "description": f"A conda environment: {describe_spec(lock.spec)}",
            },
        },
        "components": [_write_component(each, references[each.package.url]) for each in materials],
        "dependencies": [
            {"ref": _ROOT, "dependsOn": list(references.values())},
            *(
                {"ref": references[each.package.url], "dependsOn": [references[url] for url in each.needs]}
                for each in materials
            ),
        ],
    }
    return json.dumps(document, indent=1).encode()


def _write_component(material: Material, reference: str) -> dict[str, Any]:
    package = material.package
    hashes = (("SHA-256", package.sha256), ("MD5", package.md5))
    document: dict[str, Any] = {
        "type": "library",
        "bom-ref": reference,
        "name": package.title,
        "version": package.version,
        "purl": material.purl,
        "hashes": [{"alg": name, "content": value} for name, value in hashes if value],
        "externalReferences": [{"type": "distribution", "url": quote(package.url, safe=_OF_ADDRESSES)}],
        "properties": [{"name": "condery:platforms", "value": " ".join(material.platforms)}],
    }
    written = write_license(package.license)
    if written:
        document["licenses"] = [{"expression": written}]
    elif package.license:
        document["licenses"] = [{"license": {"name": package.license}}]
    return document
