"""Reads the document of an exported environment, of which nothing is believed. Raises InputInvalid, JsonInvalid."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from builder.environments.inputs.environment_file import LONGEST_NAME, check_name
from builder.environments.inputs.fields import (
    describe,
    join,
    need,
    need_list,
    need_mapping,
    need_text,
    refuse_others,
    take_text,
)
from builder.environments.transfer.vocabulary import (
    LARGEST_LOCK,
    LARGEST_LOG,
    LARGEST_MANIFEST,
    LARGEST_SETTINGS,
    LARGEST_SPECIFICATION,
    LONGEST_TEXT,
    MOST_BUILDS,
    MOST_IMAGE_MANIFESTS,
    VERSION,
    ExportedBase,
    ExportedBuild,
    ExportedEnvironment,
    ExportedImage,
    ExportedSpecification,
)
from builder.errors import InputInvalid
from storage import strict_json
from storage.clock import SKEW_SECONDS
from storage.digest import Descriptor, Digest
from storage.environments.vocabulary import UNFINISHED, BuildStatus, Cause
from storage.errors import DigestInvalid, quote
from storage.oci import MANIFEST_TYPES

_TOP = ("version", "exported", "exporter", "environment", "specifications", "builds", "locks")
_ENVIRONMENT = ("namespace", "name", "description", "settings", "created", "created_by", "current_build")
_SPECIFICATION = ("name", "document", "request")
_BUILD = (
    *("id", "specification", "status", "status_info", "cause", "lock", "same_as", "size"),
    *("scheduled", "started", "ended", "created_by", "image", "log"),
)
_IMAGE = ("top", "manifests", "warnings", "bases", "made_with", "has_bytes")
_BASE = ("platform", "reference", "digest")
_DESCRIPTOR = ("mediaType", "digest", "size", "platform", "annotations", "artifactType")

KEY = re.compile(r"[0-9a-f]{64}")
_MOST_SETTINGS = 100
_MOST_WARNINGS = 1000
_LARGEST_NUMBER = 1 << 53


def read_document(content: bytes) -> ExportedEnvironment:
    """Read the document. It takes up to seconds: use a thread in an event loop."""
    document = need_mapping(strict_json.parse(content), "")
    if document.get("version") != VERSION or isinstance(document.get("version"), bool):
        raise InputInvalid(
            "version", f"it is {quote(str(document.get('version')))}, and this condery reads {VERSION}; use a newer one"
        )
    refuse_others(document, _TOP, "")
    environment = need_mapping(need(document, "environment"), "environment")
    refuse_others(environment, _ENVIRONMENT, "environment")
    specifications = tuple(
        read_descriptor(each, f"specifications[{index}]", LARGEST_SPECIFICATION)
        for index, each in enumerate(need_list(need(document, "specifications"), "specifications", MOST_BUILDS))
    )
    locks = _read_locks(need_mapping(need(document, "locks"), "locks"))
    builds = tuple(
        _read_build(each, f"builds[{index}]", len(specifications), locks)
        for index, each in enumerate(need_list(need(document, "builds"), "builds", MOST_BUILDS))
    )
    _check_ids(builds)
    return ExportedEnvironment(
        namespace=need_text(need(environment, "namespace", "environment"), "environment.namespace", 255),
        name=check_name(need_text(need(environment, "name", "environment"), "environment.name", LONGEST_NAME)),
        description=_read_lines(environment.get("description"), "environment.description") or "",
        settings=_read_settings(environment.get("settings"), "environment.settings"),
        created=_read_time(need(environment, "created", "environment"), "environment.created"),
        created_by=need_text(need(environment, "created_by", "environment"), "environment.created_by", 255),
        current_build=_read_optional_number(environment, "current_build", "environment"),
        specifications=specifications,
        builds=builds,
        locks=locks,
        exported=_read_time(need(document, "exported"), "exported"),
        exporter=need_text(need(document, "exporter"), "exporter", 100),
    )


def read_specification(content: bytes) -> ExportedSpecification:
    """Read one specification. It takes up to seconds."""
    document = need_mapping(strict_json.parse(content), "")
    refuse_others(document, _SPECIFICATION, "")
    return ExportedSpecification(
        check_name(need_text(need(document, "name"), "name", LONGEST_NAME)),
        need_mapping(need(document, "document"), "document"),
        need_mapping(document.get("request", {}), "request"),
    )


def read_descriptor(value: Any, path: str, largest: int) -> Descriptor:
    """Of at most `largest` bytes. Raises InputInvalid."""
    document = need_mapping(value, path)
    refuse_others(document, _DESCRIPTOR, path)
    try:
        digest = Digest.parse(need_text(need(document, "digest", path), join(path, "digest")))
    except DigestInvalid as error:
        raise InputInvalid(join(path, "digest"), str(error)) from None
    size = need_number(need(document, "size", path), join(path, "size"))
    if size > largest:
        raise InputInvalid(join(path, "size"), f"it is {size} bytes; at most {largest} are allowed")
    return Descriptor(need_text(need(document, "mediaType", path), join(path, "mediaType"), 255), digest, size)


def need_number(value: Any, path: str) -> int:
    """A whole number from 0 on."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST_NUMBER:
        raise InputInvalid(path, f"it must be a whole number, but it is {quote(str(value))}")
    return value


def read_image(value: Any, path: str) -> ExportedImage:
    """Read what is said of an image."""
    document = need_mapping(value, path)
    refuse_others(document, _IMAGE, path)
    listed = need_list(need(document, "manifests", path), f"{path}.manifests", MOST_IMAGE_MANIFESTS)
    manifests = tuple(_read_manifest(each, f"{path}.manifests[{index}]") for index, each in enumerate(listed))
    top = _read_manifest(need(document, "top", path), f"{path}.top")
    if top not in manifests:
        raise InputInvalid(f"{path}.top", "it is not among the image's manifests")
    warnings = need_list(document.get("warnings", []), f"{path}.warnings", _MOST_WARNINGS)
    bases = need_list(document.get("bases", []), f"{path}.bases", MOST_IMAGE_MANIFESTS)
    made_with = document.get("made_with")
    if not isinstance(document.get("has_bytes"), bool):
        raise InputInvalid(
            f"{path}.has_bytes", f"it must be true or false, but it is {describe(document.get('has_bytes'))}"
        )
    return ExportedImage(
        top=top,
        manifests=manifests,
        warnings=tuple(need_text(each, f"{path}.warnings[{i}]", LONGEST_TEXT) for i, each in enumerate(warnings)),
        bases=tuple(_read_base(each, f"{path}.bases[{index}]") for index, each in enumerate(bases)),
        made_with=None if made_with is None else _read_settings(made_with, f"{path}.made_with"),
        has_bytes=document["has_bytes"],
    )


def _read_optional_number(document: Mapping[str, Any], key: str, path: str) -> int | None:
    return None if document.get(key) is None else need_number(document[key], join(path, key))


def _read_locks(document: Mapping[str, Any]) -> dict[str, Descriptor]:
    found = {}
    for key, value in document.items():
        path = join("locks", key)
        if not KEY.fullmatch(key):
            raise InputInvalid(path, "it is no key of a lock, which has 64 hexadecimal digits")
        found[key] = read_descriptor(value, path, LARGEST_LOCK)
    return found


def _read_build(value: Any, path: str, specifications: int, locks: Mapping[str, Descriptor]) -> ExportedBuild:
    document = need_mapping(value, path)
    refuse_others(document, _BUILD, path)
    index = need_number(need(document, "specification", path), f"{path}.specification")
    if index >= specifications:
        raise InputInvalid(f"{path}.specification", f"there is no specification {index}")
    lock = take_text(document, "lock", path)
    if lock is not None and lock not in locks:
        raise InputInvalid(f"{path}.lock", f"there is no lock {quote(lock)}")
    build = ExportedBuild(
        id=need_number(need(document, "id", path), f"{path}.id"),
        specification=index,
        status=_read_choice(document, "status", path, [each for each in BuildStatus if each not in UNFINISHED]),
        status_info=_read_lines(document.get("status_info"), f"{path}.status_info"),
        cause=_read_choice(document, "cause", path, list(Cause)),
        lock=lock,
        same_as=_read_optional_number(document, "same_as", path),
        size=need_number(need(document, "size", path), f"{path}.size"),
        scheduled=_read_time(need(document, "scheduled", path), f"{path}.scheduled"),
        started=_read_optional_time(document, "started", path),
        ended=_read_optional_time(document, "ended", path),
        created_by=need_text(need(document, "created_by", path), f"{path}.created_by", 255),
        image=read_image(document["image"], f"{path}.image") if document.get("image") is not None else None,
        log=read_descriptor(document["log"], f"{path}.log", LARGEST_LOG) if document.get("log") is not None else None,
    )
    if build.status == BuildStatus.COMPLETED and build.lock is None:
        raise InputInvalid(f"{path}.lock", "a build that is COMPLETED has a lock")
    if build.ended is None:
        raise InputInvalid(f"{path}.ended", "it is missing, and only builds that have ended are exported")
    return build


def _read_manifest(value: Any, path: str) -> Descriptor:
    found = read_descriptor(value, path, LARGEST_MANIFEST)
    if found.media_type not in MANIFEST_TYPES:
        raise InputInvalid(f"{path}.mediaType", f"{quote(found.media_type)} is not the type of an image's manifest")
    return found


def _read_base(value: Any, path: str) -> ExportedBase:
    document = need_mapping(value, path)
    refuse_others(document, _BASE, path)
    return ExportedBase(
        need_text(need(document, "platform", path), f"{path}.platform", 100),
        need_text(need(document, "reference", path), f"{path}.reference"),
        take_text(document, "digest", path),
    )


def _read_settings(value: Any, path: str) -> Mapping[str, Any]:
    """A document of others, of which only the size is checked."""
    document = {} if value is None else need_mapping(value, path)
    if len(document) > _MOST_SETTINGS:
        raise InputInvalid(path, f"it has {len(document)} fields; at most {_MOST_SETTINGS} are allowed")
    if (size := len(json.dumps(document))) > LARGEST_SETTINGS:
        raise InputInvalid(path, f"it has {size} bytes; at most {LARGEST_SETTINGS} are allowed")
    return document


def _read_choice(document: Mapping[str, Any], key: str, path: str, choices: list[Any]) -> Any:
    value = need_text(need(document, key, path), join(path, key))
    if value not in choices:
        raise InputInvalid(join(path, key), f"it is {quote(value)}; it must be one of {', '.join(choices)}")
    return next(each for each in choices if each == value)


def _read_time(value: Any, path: str) -> float:
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or not 0 <= value <= time.time() + SKEW_SECONDS
    ):
        raise InputInvalid(path, f"{quote(str(value))} is not a time in the past, in seconds since 1970")
    return float(value)


def _read_optional_time(document: Mapping[str, Any], key: str, path: str) -> float | None:
    return None if document.get(key) is None else _read_time(document[key], join(path, key))


def _read_lines(value: Any, path: str) -> str | None:
    """Text that may have several lines; null is none."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputInvalid(path, f"it must be text, but it is {describe(value)}")
    if len(value) > LONGEST_TEXT or not value.translate(dict.fromkeys(map(ord, "\n\r\t"))).isprintable():
        raise InputInvalid(path, f"it has a control character, or more than {LONGEST_TEXT} characters")
    return value


def _check_ids(builds: Iterable[ExportedBuild]) -> None:
    last = -1
    for index, build in enumerate(builds):
        if build.id <= last:
            raise InputInvalid(
                f"builds[{index}].id", f"it is {build.id}, after {last}: builds are in the order of their ids"
            )
        last = build.id
