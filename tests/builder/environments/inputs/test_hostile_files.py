"""Whatever is sent, reading ends in an input or in an error that names what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.environments.inputs.environment_file import KEYS
from builder.environments.inputs.input import InputSettings
from builder.environments.inputs.locks.conda_lock import KEYS as LOCK_KEYS
from builder.environments.inputs.reading import MOST_WARNINGS, read_input
from builder.errors import InputInvalid
from builder.locks.lock import Lock
from builder.names.spec import EnvironmentSpec

SETTINGS = InputSettings(
    channels=("conda-forge", "file:///srv/channel"),
    needs_name=False,
    local_channels=(("file:///srv/channel/", "file:///srv/channel"),),
)

WORDS = st.sampled_from(
    [
        *KEYS, *LOCK_KEYS,
        "environments", "packages", "default", "conda", "pypi", "pip", "url", "hash", "md5", "sha256",
        "platform", "manager", "optional", "subdir", "sel(linux)", "linux-64", "noarch", "nodefaults", "defaults",
        "CONDA_OVERRIDE_CUDA", "https://conda.anaconda.org/conda-forge/linux-64/a-1.0-h0_0.conda", "a-1.0-h0_0.conda",
        "file:///srv/channel/noarch/a-1-0.conda", "https://[", "https://x:99999999/y", "//", "%2f", "numpy>=1,<2|3",
        "a::b", "a[b]", "a=1=b", "::", "[", "=", "-e .", "git+https://x", "x @ https://u:p@[y", "--index-url", "a" * 32,
        "a" * 64, "\u202e", "\ud83d\ude00", "\x85", "12.4", "team/base",
    ]
)  # fmt: skip
SCALARS = st.one_of(
    WORDS, st.text(max_size=12), st.integers(), st.floats(), st.booleans(), st.none(), st.sampled_from([1, 5, 6, 7])
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=5)),
    max_leaves=25,
)


def outcome(content: bytes, name: str | None = None) -> None:
    """Read `content`, and check what comes of it."""
    found, said = None, ""
    try:
        found = read_input(content, SETTINGS, file_name=name)
    except InputInvalid as error:
        said = str(error)
    if found is None:
        assert 0 < len(said) < 5000
        return
    assert json.loads(json.dumps(found.document, allow_nan=False)) == found.document
    assert EnvironmentSpec.from_json(json.loads(json.dumps(found.spec.to_json()))) == found.spec
    assert found.lock is None or Lock.from_json(json.loads(json.dumps(found.lock.to_json()))) == found.lock


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(WORDS, VALUES, max_size=7))
def test_any_document(document: dict[str, Any]) -> None:
    outcome(yaml.safe_dump(document).encode())


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass"))))
def test_any_bytes(content: bytes) -> None:
    for name in (None, "pixi.toml", "x.yaml"):
        outcome(content, name)


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, max_size=6))
def test_any_explicit_list(lines: list[str]) -> None:
    outcome("\n".join(["@EXPLICIT", *lines, *(f"{line}#{'a' * 32}" for line in lines)]).encode(errors="replace"))


@pytest.mark.parametrize(
    "content",
    [
        b"name: a\ndependencies: []\n" + b"".join(b"chanels%d: 1\n" % number for number in range(20_000)),
        b"name: a\ndependencies:\n" + b"- {pip: [x]}\n" * 2000,
        b"name: a\nchannels: [x]\ndependencies: [" + b"a," * 2000 + b"]\n",
        b"name: a\ndependencies: ['" + b"a|" * 400 + b"']\n",
        b"@EXPLICIT\n" + b"".join(
            b"https://u:p@x%d.org/c/noarch/a%d-1-0.conda#%s\n" % (number, number, b"a" * 32) for number in range(5000)
        ),
        b"#" * 1_000_000,
        b"name: a\ndependencies:\n - a " + b" " * 900_000 + b"\n - b # [",
        b"name: a\ndependencies:\n - a # " + b"[" * 900_000,
        b"name: a\ndependencies:\n - a # [" + b"(" * 900_000 + b"linux]",
        b"name: a\ndependencies:\n" + b" - a # [linux and not py]\n" * 2000,
        b"a" * 1_000_000,
        b"- " * 500_000,
        b"?" * 1_000_000,
        b'"' + b"\\x41" * 200_000 + b'"',
        b"[" + b"a: " * 300_000,
        b"[workspace]\n" + b"a.b = 1\n" * 20_000,
        b"[workspace]\nx = '" + b"a." * 100_000 + b"'",
        b"[workspace]\n" + b"\"" * 200_000,
        b"package:\n" + b"- {name: x}\n" * 21_000,
    ],
)  # fmt: skip
def test_bounds(content: bytes) -> None:
    """The time limit of a test is ten times what a file may take."""
    outcome(content)


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=4), st.dictionaries(WORDS, SCALARS, max_size=3), VALUES, WORDS)
def test_documents_that_are_nearly_right(specs: list[str], variables: dict[str, Any], extra: Any, key: str) -> None:
    lock: dict[str, Any] = {
        "version": 1,
        "metadata": {"content_hash": {}, "channels": [{"url": key}], "platforms": ["linux-64"], "sources": []},
        "package": [{
            "name": "a", "version": "1.0", "manager": "conda", "platform": "linux-64", "optional": False,
            "url": "https://conda.anaconda.org/conda-forge/linux-64/a-1.0-h0_0.conda", "hash": {"md5": "a" * 32},
        }],
    }  # fmt: skip
    for document in (
        {"name": "a", "dependencies": specs, "variables": variables},
        {"name": "a", "dependencies": [], key: extra},
        lock,
        {**lock, "package": [{**lock["package"][0], key: extra}]},
        {**lock, "version": 3, "package": [{**lock["package"][0], key: extra}]},
    ):
        outcome(yaml.safe_dump(document).encode())


def test_warnings_are_few() -> None:
    content = b"name: a\ndependencies: []\n" + b"".join(b"x%d: 1\n" % number for number in range(90))
    found = read_input(content, SETTINGS)
    assert len(found.warnings) == MOST_WARNINGS + 1
    assert found.warnings[-1] == f"and {90 - MOST_WARNINGS} more"
