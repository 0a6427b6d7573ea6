"""Bills of materials: the tools that read them find nothing wrong, and every package in them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from spdx_tools.spdx.model.document import Document
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from builder.artifacts.cyclonedx import write_cyclonedx
from builder.artifacts.materials import list_materials, write_license, write_purl
from builder.artifacts.spdx import write_spdx
from builder.locks.lock import Lock, LockedPackage
from tests.support.builder.locks import LOCK, SPEC, package
from tests.support.builder.services import open_service, spec_of

NOARCH = package("tzdata", "2026a", "h0_0", subdir="noarch", noarch="generic", license="LicenseRef-Public-Domain")
PACKAGES = (
    NOARCH,
    package("python", "3.12.8", depends=("tzdata", "__glibc >=2.17"), license="Python-2.0"),
    package("numpy", "2.1.0", depends=("python >=3.12",), license="BSD-3-Clause AND (MIT or Zlib)"),
    package("gcc", "1!14.2+x", depends=("numpy",), license="GPL-3.0-only WITH GCC-exception-3.1"),
    package("words", license="free for all friends", md5=None, file_name="words-1.0-h0_0.tar.bz2"),
    package("silent", license=None, sha256=None, timestamp=None),
    package("elsewhere", channel="https://a.example.org/odd channel&x", url="file:///srv/odd channel/e-1-0.conda"),
    package("over-oci", url="oci://a.example.org/forge/linux-64/over-oci-1.0-h0_0.conda", license="MIT"),
)
BOTH = Lock(
    dataclasses.replace(SPEC, platforms=("linux-64", "linux-aarch64")),
    {"linux-64": PACKAGES, "linux-aarch64": (NOARCH, package("python", "3.12.8", subdir="linux-aarch64"))},
)
URLS = {each.url for group in BOTH.packages.values() for each in group}


def read_spdx(lock: Lock, folder: Path) -> Document:
    path = folder / "sbom.spdx.json"
    path.write_bytes(write_spdx(lock))
    document = parse_file(str(path))
    assert isinstance(document, Document)
    return document


@pytest.mark.parametrize("lock", [BOTH, LOCK, Lock(SPEC, {"linux-64": ()})])
def test_spdx_is_valid(lock: Lock, tmp_path: Path) -> None:
    assert [each.validation_message for each in validate_full_spdx_document(read_spdx(lock, tmp_path))] == []


def test_spdx_has_every_package(tmp_path: Path) -> None:
    document = read_spdx(BOTH, tmp_path)
    assert document.creation_info.created.isoformat() == "2023-11-14T22:13:20"
    found = {each.external_references[0].locator: each for each in document.packages if each.external_references}
    assert found.keys() == {write_purl(each) for group in BOTH.packages.values() for each in group}
    numpy = found[write_purl(PACKAGES[2])]
    assert str(numpy.license_declared) == "BSD-3-Clause AND (MIT OR Zlib)"
    assert numpy.download_location == PACKAGES[2].url
    assert {each.algorithm.name: each.value for each in numpy.checksums} == {
        "SHA256": PACKAGES[2].sha256,
        "MD5": PACKAGES[2].md5,
    }
    words = found[write_purl(PACKAGES[4])]
    assert (str(words.license_declared), words.license_comment) == (
        "NOASSERTION",
        "The channel says: free for all friends",
    )
    assert [each.license_id for each in document.extracted_licensing_info] == ["LicenseRef-Public-Domain"]
    kinds = [each.relationship_type.name for each in document.relationships]
    assert {name: kinds.count(name) for name in set(kinds)} == {"DESCRIBES": 2, "CONTAINS": 10, "DEPENDS_ON": 3}


@pytest.mark.parametrize("lock", [BOTH, LOCK, Lock(SPEC, {"linux-64": ()})])
def test_cyclonedx_is_valid(lock: Lock) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(write_cyclonedx(lock).decode()) is None


def test_cyclonedx_has_every_package() -> None:
    document = json.loads(write_cyclonedx(BOTH))
    bom: Any = Bom.from_json(document)  # type: ignore[attr-defined] # made by its decorator
    assert {each.purl.to_string() for each in bom.components} == {
        write_purl(each) for group in BOTH.packages.values() for each in group
    }
    assert {unquote(each["externalReferences"][0]["url"]) for each in document["components"]} == URLS
    by_name = {each["name"]: each for each in document["components"] if "aarch64" not in each["purl"]}
    assert by_name["numpy"]["licenses"] == [{"expression": "BSD-3-Clause AND (MIT OR Zlib)"}]
    assert by_name["words"]["licenses"] == [{"license": {"name": "free for all friends"}}]
    assert "licenses" not in by_name["silent"]
    assert by_name["tzdata"]["properties"] == [{"name": "condery:platforms", "value": "linux-64 linux-aarch64"}]
    needs = {each["ref"]: each["dependsOn"] for each in document["dependencies"]}
    assert needs[by_name["numpy"]["bom-ref"]] == [by_name["python"]["bom-ref"]]
    assert len(needs["environment"]) == len(URLS)


def test_equal_locks_give_equal_bytes() -> None:
    again = Lock.from_json(json.loads(json.dumps(BOTH.to_json())))
    assert write_spdx(again) == write_spdx(BOTH)
    assert write_cyclonedx(again) == write_cyclonedx(BOTH)


@pytest.mark.parametrize("each", [*PACKAGES, package("lib_x~y", "2:1,3*", build="a=b&c_0")])
def test_purls_are_as_the_reference_implementation_writes_them(each: LockedPackage) -> None:
    qualifiers = {
        "build": each.build,
        "channel": each.channel,
        "subdir": each.subdir,
        "type": "tar.bz2" if each.file_name.endswith(".tar.bz2") else "conda",
    }
    assert write_purl(each) == PackageURL("conda", None, each.name, each.version, qualifiers).to_string()
    assert PackageURL.from_string(write_purl(each)).qualifiers == qualifiers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MIT", "MIT"),
        ("mit and apache-2.0", "MIT AND Apache-2.0"),
        ("(MIT OR Zlib) AND BSD-3-Clause", "(MIT OR Zlib) AND BSD-3-Clause"),
        ("MIT AND Zlib OR ISC", "MIT AND Zlib OR ISC"),
        ("GPL-2", "GPL-2.0-only"),
        ("MIT AND my own", None),
        ("GPL-3.0-only WITH my-exception", None),
        ("unknown", None),
        (None, None),
    ],
)
def test_licenses(text: str | None, expected: str | None) -> None:
    assert write_license(text) == expected


def test_deep_licenses_are_written() -> None:
    written = write_license("(MIT OR (Zlib AND " * 45 + "ISC" + "))" * 45)
    assert written
    assert (written.count("MIT"), written.count("Zlib")) == (45, 45)


def test_a_package_of_two_platforms_is_one_material() -> None:
    materials = list_materials(BOTH)
    assert len(materials) == len(URLS)
    assert [each.platforms for each in materials if each.package == NOARCH] == [("linux-64", "linux-aarch64")]


async def test_those_of_a_real_environment_are_valid(sample_channel: Path, tmp_path: Path) -> None:
    async with open_service(tmp_path / "data", sample_channel.as_uri(), glibc="2.99") as service:
        lock = await service.lock(spec_of(service, "jupyterlab", "pandas"))
    document = read_spdx(lock, tmp_path)
    assert [each.validation_message for each in validate_full_spdx_document(document)] == []
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(write_cyclonedx(lock).decode()) is None
    assert len(document.packages) == 1 + len(lock.packages["linux-64"]) > 50
