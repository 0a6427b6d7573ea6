"""Paths below /v2: what they name, whatever repositories are called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import NameInvalid, RouteUnknown
from registry.http.references import Target, parse_path, repository_name
from storage.oci import LONGEST_REPOSITORY

WORDS = st.sampled_from(["manifests", "blobs", "uploads", "tags", "list", "referrers", "a", "b-c", "d__e", "f.g"])
NAMES = st.lists(WORDS, min_size=1, max_size=6).map("/".join)
PIECES = st.sampled_from(
    ["/", "//", "..", ".", "%2f", "%00", "\n", "a", "A", "manifests", "blobs", "tags", "list", "é"]
)


@given(NAMES, st.sampled_from(["latest", "list", "uploads", "manifests", "sha256:abc"]))
def test_every_repository_and_tag_is_found_again(name: str, tag: str) -> None:
    assert parse_path(f"/v2/{name}/manifests/{tag}") == Target("manifests", name, tag)
    assert parse_path(f"/v2/{name}/tags/list") == Target("tags", name)


@given(NAMES)
def test_every_repository_has_its_blobs(name: str) -> None:
    digest = "sha256:" + "0" * 64
    assert parse_path(f"/v2/{name}/blobs/{digest}") == Target("blobs", name, digest)
    assert parse_path(f"/v2/{name}/blobs/sha256%3A{'0' * 64}") == Target("blobs", name, digest)
    assert parse_path(f"/v2/{name}/referrers/{digest}") == Target("referrers", name, digest)
    assert parse_path(f"/v2/{name}/blobs/uploads") == Target("uploads", name)
    assert parse_path(f"/v2/{name}/blobs/uploads/") == Target("uploads", name)
    assert parse_path(f"/v2/{name}/blobs/uploads/some-id") == Target("upload", name, "some-id")


@given(st.lists(PIECES, max_size=12).map("".join))
def test_any_path_is_a_target_or_a_known_error(path: str) -> None:
    try:
        target = parse_path("/v2/" + path)
    except (NameInvalid, RouteUnknown):
        return
    assert target.repository == "" or repository_name(target.repository.split("/")) == target.repository
    assert not set(target.repository) & set("%\n ")
    assert ".." not in target.repository


def test_long_names_are_refused_quickly() -> None:
    # a backtracking grammar takes for ever over these
    for name in ("a" * 8000 + "!", "a-" * 4000, "a" + "-" * 8000, "/".join(["a"] * 4000)):
        with pytest.raises(NameInvalid) as refused:
            parse_path(f"/v2/{name}/manifests/latest")
        assert len(str(refused.value)) < 500
    assert parse_path(f"/v2/{'a' * LONGEST_REPOSITORY}/tags/list").repository == "a" * LONGEST_REPOSITORY
