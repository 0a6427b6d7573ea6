"""Digests of both algorithms, and descriptors as JSON."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.digest import ALGORITHMS, Descriptor, Digest, new_hasher
from storage.errors import DigestInvalid


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(parts=st.lists(st.binary(max_size=50), max_size=4))
def test_a_digest_is_that_of_the_bytes_however_they_come(algorithm: str, parts: list[bytes]) -> None:
    data = b"".join(parts)
    digest = Digest.of(data, algorithm)
    assert digest == f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    assert (digest.algorithm, digest.hex) == (algorithm, digest.split(":")[1])
    assert Digest.parse(digest) == digest
    hasher = digest.hasher()
    for part in parts:
        hasher.update(part)
    assert Digest.of_hasher(hasher) == Digest.of_hasher(hasher.copy()) == digest


def test_sha256_unless_another_is_named() -> None:
    assert Digest.of(b"{}") == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize(
    "algorithm", ["", "md5", "SHA256", "sha-256", "sha256 ", "sha384", "shake_128", "blake3", "../sha256"]
)
def test_other_algorithms_are_refused(algorithm: str) -> None:
    with pytest.raises(DigestInvalid):
        new_hasher(algorithm)
    with pytest.raises(DigestInvalid):
        Digest.of(b"", algorithm)


@pytest.mark.parametrize(
    "text",
    [
        "sha512:" + "a" * 127,
        "sha512:" + "a" * 129,
        "sha512:" + "a" * 64,
        "sha256:" + "a" * 128,
        "sha512:" + "A" * 128,
        "sha512:" + "a" * 128 + "\n",
        " sha512:" + "a" * 128,
        "sha256:" + "\uff11" * 64,
        "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564",
        "blake3:" + "a" * 64,
    ],
)
def test_malformed_digests(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Digest.parse(text)


@pytest.mark.parametrize(
    "descriptor",
    [
        Descriptor("a/b", Digest.of(b""), 0),
        Descriptor(
            "a/b",
            Digest.of(b"x", "sha512"),
            1,
            platform={"os": "linux", "architecture": "arm64"},
            annotations={"k": ""},
            artifact_type="c/d",
        ),
    ],
)
def test_descriptors_are_their_json(descriptor: Descriptor) -> None:
    assert Descriptor.from_json(json.loads(json.dumps(descriptor.to_json()))) == descriptor


def test_a_descriptor_has_no_empty_fields() -> None:
    assert Descriptor("a/b", Digest.of(b""), 0).to_json() == {"mediaType": "a/b", "digest": Digest.of(b""), "size": 0}
