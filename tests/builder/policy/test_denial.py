from __future__ import annotations

from typing import Any

import pytest

from builder.policy.denial import Candidate, Denial

ALIAS = "https://conda.example.org"
FORGE = f"{ALIAS}/conda-forge/"


def candidate(name: str, version: str = "1.0", build: str = "h1_0", channel: str = FORGE) -> Candidate:
    return Candidate(name, version, build, channel, "MIT", None)


@pytest.mark.parametrize(
    ("line", "held", "passed"),
    [
        ("openssl", [candidate("openssl")], [candidate("openssl-legacy")]),
        ("OpenSSL # CVE", [candidate("openssl")], []),
        ("openssl <3.0.7", [candidate("openssl", "3.0.6"), candidate("openssl", "3.0.7rc1")],
         [candidate("openssl", "3.0.7"), candidate("libssl", "1")]),
        ("openssl >=3,<3.0.7", [candidate("openssl", "3.0.0")], [candidate("openssl", "1.1.1")]),
        ("openssl >=3 <3.0.7", [candidate("openssl", "3.0.0")], [candidate("openssl", "1.1.1")]),
        ("openssl <1.1.1|>=3,<3.0.7", [candidate("openssl", "1.0"), candidate("openssl", "3.0.1")],
         [candidate("openssl", "1.1.1"), candidate("openssl", "3.0.7")]),
        ("numpy 1.26", [candidate("numpy", "1.26"), candidate("numpy", "1.26.0")], [candidate("numpy", "1.26.1")]),
        ("numpy 1.26.*", [candidate("numpy", "1.26.4")], [candidate("numpy", "1.27")]),
        ("numpy=1.26=py311*", [candidate("numpy", "1.26", "py311h1_0")], [candidate("numpy", "1.26", "py312h1_0")]),
        ("conda-forge::numpy", [candidate("numpy")], [candidate("numpy", channel=f"{ALIAS}/bioconda/")]),
        ("https://Conda.example.org:443/conda-forge::numpy", [candidate("numpy")],
         [candidate("numpy", channel="https://conda.example.org:8443/conda-forge/")]),
        ("conda-forge::numpy", [candidate("numpy", channel="https://CONDA.example.org:443/conda-forge/")], []),
        ('numpy[build="py311*"]', [candidate("numpy", "9", "py311_0")], [candidate("numpy", "9", "py312_0")]),
    ],
)  # fmt: skip
def test_lines(line: str, held: list[Candidate], passed: list[Candidate]) -> None:
    denial = Denial.parse(line, ALIAS)
    assert [each for each in held if not denial.holds(each)] == []
    assert [each for each in passed if denial.holds(each)] == []
    assert Denial.parse(denial.line, ALIAS) == denial


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ({"package": "openssl"}, "openssl"),
        ({"package": "openssl", "versions": "<3.0.7", "reason": "CVE-2022-3602"}, "openssl <3.0.7 # CVE-2022-3602"),
        ({"package": "openssl", "versions": "<1|>=3", "build": "h*", "channel": "main", "reason": "a # b\nc"},
         'main::openssl <1[build="h*"]|>=3[build="h*"] # a # b c'),
    ],
)  # fmt: skip
def test_documents(document: dict[str, str], line: str) -> None:
    denial = Denial.of_document(document, ALIAS)
    assert denial.line == line
    assert Denial.parse(line, ALIAS) == denial


def test_what_cannot_be_compared_is_denied() -> None:
    """A channel that writes a version nobody can read must not slip through a range."""
    assert Denial.parse("openssl <3", ALIAS).holds(candidate("openssl", "not..a..version"))


def test_the_whole_package() -> None:
    assert Denial.parse("left-pad", ALIAS).is_whole
    assert not any(Denial.parse(each, ALIAS).is_whole for each in ("a <1", "main::a", 'a[build="x*"]'))


@pytest.mark.parametrize(
    "line",
    ["", "# only a reason", "openssl <<3", "openssl <x..1", "http://user:secret@host/c::openssl", "open ssl 3 4 5",
     "openssl[md5=1]", "__glibc", "*", f"openssl # {'x' * 600}"],
)  # fmt: skip
def test_bad_lines(line: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - each is wrong in its own way
        Denial.parse(line, ALIAS)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [{}, {"package": ""}, {"package": 1}, {"package": "a", "version": "<3"}, {"package": "a # b"},
     {"package": "a", "versions": ["<3"]}, {"package": "a", "reason": None}],
)  # fmt: skip
def test_bad_documents(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"field|text|missing"):
        Denial.of_document(document, ALIAS)
