"""Whatever manifest is sent, it is read as what it says or refused, and nothing else is ever raised."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.digest import Descriptor, Digest
from storage.errors import JsonInvalid, ManifestInvalid
from storage.oci import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from storage.repositories.manifest_document import KINDS, read_manifest
from tests.support.storage import manifests_in_the_wild as wild
from tests.support.storage.manifests import NONDISTRIBUTABLE, body, names
from tests.support.storage.manifests_in_the_wild import descriptor, digest, image, index

# generated manifests

MEDIA_TYPES = st.from_regex(r"[a-z0-9][a-z0-9.+-]{0,8}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,12}", fullmatch=True)
STRINGS = st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=3)
FOUND_TYPES = st.sampled_from(
    [*KINDS, OCI_CONFIG, OCI_LAYER_GZIP, NONDISTRIBUTABLE, wild.FOREIGN_LAYER, wild.EMPTY_JSON]
)


@st.composite
def descriptors(draw: st.DrawFn) -> dict[str, Any]:
    content = draw(st.binary(max_size=4))
    algorithm = draw(st.sampled_from(["sha256", "sha512"]))
    optional = {
        "urls": st.lists(st.text(max_size=5), max_size=2),
        "annotations": STRINGS,
        "artifactType": MEDIA_TYPES,
        "data": st.just(base64.b64encode(content).decode()),
        "platform": st.fixed_dictionaries({"os": st.text(max_size=5), "architecture": st.text(max_size=5)}),
        "org.example.custom": st.none() | st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=2),
    }
    return {
        "mediaType": draw(MEDIA_TYPES | FOUND_TYPES),
        "digest": Digest.of(content, algorithm),
        "size": len(content),
        **draw(st.fixed_dictionaries({}, optional=optional)),
    }


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, Any]:
    optional = {
        "subject": descriptors(),
        "annotations": STRINGS,
        "artifactType": MEDIA_TYPES,
        "custom": st.integers(0, 9),
    }
    media_type = draw(st.sampled_from(list(KINDS)))
    listed = st.lists(descriptors(), max_size=3)
    content = {"manifests": listed} if KINDS[media_type] == "index" else {"config": descriptors(), "layers": listed}
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        **draw(st.fixed_dictionaries(content)),
        **draw(st.fixed_dictionaries({}, optional=optional)),
    }
    return dict(draw(st.permutations(list(document.items()))))


@settings(deadline=None)
@given(document=manifests(), indent=st.none() | st.just(3), ascii_only=st.booleans())
def test_a_valid_manifest_is_read_as_what_it_says(
    document: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    content = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()
    found = read_manifest(document["mediaType"], content)
    assert found.media_type == document["mediaType"]
    assert found.annotations == document.get("annotations", {})
    assert same(found.subject, document.get("subject"))
    listed = document.get("layers", document.get("manifests", []))
    everything = {each["digest"] for each in listed}
    if found.kind == "image":
        assert same(found.config, document["config"])
        assert found.artifact_type == document.get("artifactType", document["config"]["mediaType"])
        assert found.children == ()
        assert found.blobs[0] is found.config
        elsewhere = (NONDISTRIBUTABLE, wild.FOREIGN_LAYER)
        here = {each["digest"] for each in listed if each["mediaType"] not in elsewhere}
        assert set(names(found.blobs)) == here | {document["config"]["digest"]}
        everything.add(document["config"]["digest"])
    else:
        assert (found.config, found.blobs) == (None, ())
        assert found.artifact_type == document.get("artifactType")
        assert set(names(found.children)) == {each["digest"] for each in listed if each["mediaType"] in KINDS}
    kept = [*found.blobs, *found.optional_blobs, *found.children]
    assert set(names(tuple(kept))) == everything
    assert all(any(same(each, other) for other in [document.get("config"), *listed]) for each in kept)


def same(found: Descriptor | None, document: Mapping[str, Any] | None) -> bool:
    """Whether a descriptor is what it was read from, but for what a registry has no use for."""
    if found is None or document is None:
        return found is None and document is None
    unused = ("urls", "data", "org.example.custom")
    return Descriptor.from_json({key: value for key, value in document.items() if key not in unused}) == found


# anything else

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=6)
    | st.sampled_from([*KINDS, digest("x"), "sha256:", "a/b", "e30="]),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(
            st.text(max_size=4) | st.sampled_from([*wild.EMPTY_CONFIG, "config", "layers"]), each, max_size=4
        )
    ),
    max_leaves=8,
)
CONTENT_TYPES = st.none() | st.text(max_size=6) | st.sampled_from([*KINDS, "application/json", f"{OCI_MANIFEST};a=b"])


def is_read_or_refused(content_type: str | None, content: bytes) -> None:
    try:
        read_manifest(content_type, content)
    except (ManifestInvalid, JsonInvalid) as error:
        text = str(error)
    else:
        text = ""
    assert len(text) < 1000
    assert text == "" or text.isprintable()


@settings(deadline=None)
@given(content_type=CONTENT_TYPES, value=JSON)
def test_any_json_is_read_or_refused(content_type: str | None, value: Any) -> None:
    is_read_or_refused(content_type, body(value))


@given(content_type=CONTENT_TYPES, content=st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(content_type: str | None, content: bytes) -> None:
    is_read_or_refused(content_type, content)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for step in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[step], (*path, step))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    document = copy.deepcopy(document)
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return document


@settings(deadline=None)
@given(document=manifests(), value=JSON, data=st.data())
def test_a_manifest_with_anything_in_one_place_is_read_or_refused(
    document: dict[str, Any], value: Any, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(list(places(document))))
    is_read_or_refused(document["mediaType"], body(replaced(document, path, value)))


COMPLETE = [
    image(
        artifactType="a/b",
        config=descriptor(OCI_CONFIG, "{}", data="e30=", urls=["x"], annotations={"a": "b"}),
        layers=[descriptor(OCI_LAYER_GZIP, "x", platform={"os": "a", "architecture": "b", "os.features": ["c"]})],
        subject=descriptor(OCI_MANIFEST, "y"),
        annotations={"a": "b"},
    ),
    index(descriptor(OCI_MANIFEST, "x", artifactType="a/b"), annotations={"a": "b"}, artifactType="c/d"),
]
WRONG: list[Callable[[Any], Any]] = [
    lambda value: [value],
    lambda value: {"a": value},
    lambda value: str(value) if not isinstance(value, str) else 7,
    lambda _: True,
    lambda _: -1.5,
]


@pytest.mark.parametrize(
    ("document", "path"),
    [(document, path) for document in COMPLETE for path in places(document)],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("wrong", WRONG, ids=["list", "object", "text", "true", "number"])
def test_no_field_may_be_of_another_type(document: Any, path: tuple[Any, ...], wrong: Callable[[Any], Any]) -> None:
    value = document
    for step in path:
        value = value[step]
    value = wrong(value)
    if path[-1:] == ("platform",) and isinstance(value, dict):
        value = {"os": value}
    with pytest.raises(ManifestInvalid) as caught:
        read_manifest(document["mediaType"], body(replaced(document, path, value)))
    if path:
        assert caught.value.where.startswith(str(path[0]))


@pytest.mark.parametrize("parameters", ["; charset=utf-8", ";a=b", ' ; title="a b"; v=1'])
def test_a_descriptors_media_type_may_have_parameters(parameters: str) -> None:
    """As distribution takes it: some tools write them, and a client that reads the index copes with them or not."""
    child = descriptor(OCI_MANIFEST, "a")
    document = read_manifest(None, body(index({**child, "mediaType": OCI_MANIFEST + parameters})))
    assert [each.digest for each in document.children] == [child["digest"]]
    assert document.optional_blobs == ()


@pytest.mark.parametrize("parameters", [";", ";a", "; a=", ";a=b;", '; a="', ";a=b" * 9, "; a=b\n"])
def test_but_they_have_to_be_some(parameters: str) -> None:
    with pytest.raises(ManifestInvalid, match="mediaType"):
        read_manifest(None, body(index({**descriptor(OCI_MANIFEST, "a"), "mediaType": OCI_MANIFEST + parameters})))
