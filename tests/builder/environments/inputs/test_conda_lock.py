"""conda-lock's files: what is read of them, and every rejection with its message."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from builder.environments.inputs.input import EnvironmentInput, InputKind, InputSettings
from builder.environments.inputs.reading import read_input
from builder.errors import InputInvalid
from builder.locks.formats import write_conda_lock
from builder.locks.lock import Lock
from tests.support.builder.locks import LOCK, SPEC, package

SETTINGS = InputSettings(
    platforms=("linux-64", "linux-aarch64"), channel_alias="https://conda.example.org", prefix="/opt/conda"
)


def entry(name: Any = "zlib", platform: str = "linux-64", **fields: Any) -> dict[str, Any]:
    values = {
        "name": name,
        "version": "1.0",
        "manager": "conda",
        "platform": platform,
        "dependencies": {},
        "url": f"https://conda.example.org/conda-forge/{platform}/{name}-1.0-h0_3.conda",
        "hash": {"md5": "0" * 32, "sha256": "a" * 64},
        "category": "main",
        "optional": False,
    } | fields
    return {key: value for key, value in values.items() if value is not ...}


def document(*entries: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    values = {
        "content_hash": {"linux-64": "x"},
        "channels": [{"url": "conda-forge", "used_env_vars": []}],
        "platforms": ["linux-64"],
        "sources": ["environment.yml"],
    } | metadata
    return {
        "version": 1,
        "metadata": {key: value for key, value in values.items() if value is not ...},
        "package": list(entries),
    }


def read(value: Any, settings: InputSettings = SETTINGS) -> EnvironmentInput:
    return read_input(json.dumps(value).encode(), settings)


def test_what_condery_writes() -> None:
    lock = Lock(
        replace(SPEC, platforms=("linux-64", "linux-aarch64")),
        {
            **LOCK.packages,
            "linux-aarch64": (package("python", "3.12.8", subdir="linux-aarch64"), package("tzdata", subdir="noarch")),
        },
    )
    found = read_input(write_conda_lock(lock), SETTINGS, is_lock=True)
    assert found.kind is InputKind.CONDA_LOCK
    assert found.lock
    assert found.spec == found.lock.spec
    assert found.spec.platforms == ("linux-64", "linux-aarch64")
    assert found.spec.channels == ("conda-forge",)
    for platform, packages in lock.packages.items():
        read_back = found.lock.packages[platform]
        assert {(p.url, p.sha256, p.md5, p.channel, p.build) for p in read_back} == {
            (p.url, p.sha256, p.md5, p.channel, p.build) for p in packages
        }
    names = [p.name for p in found.lock.packages["linux-64"]]
    assert names.index("python") < names.index("numpy")
    assert found.warnings == ()
    assert Lock.from_json(json.loads(json.dumps(found.lock.to_json()))) == found.lock


def test_the_order_of_a_file_is_no_matter() -> None:
    a, b = entry("a", dependencies={"b": ">=1"}), entry("b")
    assert read(document(a, b)).lock == read(document(b, a)).lock
    found = read(document(a, b)).lock
    assert found
    first, second = found.packages["linux-64"]
    assert (first.name, second.name) == ("b", "a")
    assert second.depends == ("b >=1",)
    assert (first.build, first.build_number) == ("h0_3", 3)


def test_platforms_that_this_server_builds_for() -> None:
    value = document(
        *(entry("a", platform) for platform in ("linux-64", "linux-aarch64", "osx-64")),
        platforms=["linux-64", "linux-aarch64", "osx-64"],
    )
    found = read(value, replace(SETTINGS, platforms=("linux-64",)))
    assert found.lock
    assert list(found.lock.packages) == ["linux-64"]
    assert found.warnings == (
        "metadata.platforms: environments are made for Linux only; left out: osx-64",
        "metadata.platforms: this server builds for linux-64; left out: linux-aarch64",
    )
    other = read(value, replace(SETTINGS, platforms=("linux-s390x",)))
    assert other.spec.platforms == ("linux-64", "linux-aarch64")


def test_channels_are_those_in_use_by_their_names() -> None:
    elsewhere = entry("b", url="https://other.example.org/x/y/noarch/b-1.0-h0_3.tar.bz2")
    found = read(
        document(
            entry("a"),
            elsewhere,
            channels=[
                {"url": "https://other.example.org/x/y", "used_env_vars": []},
                {"url": "unused", "used_env_vars": []},
            ],
        )
    )
    assert found.spec.channels == ("https://other.example.org/x/y", "conda-forge")


def test_credentials_are_not_kept() -> None:
    value = document(
        entry("a", url="https://me:secret@conda.example.org/t/tk-secret/conda-forge/linux-64/a-1.0-h0_3.conda"),
        channels=[{"url": "https://conda.example.org/t/tk-secret/conda-forge", "used_env_vars": []}],
    )
    found = read(value)
    assert found.lock
    (only,) = found.lock.packages["linux-64"]
    assert only.url == "https://conda.example.org/conda-forge/linux-64/a-1.0-h0_3.conda"
    assert only.channel == "conda-forge"
    assert "secret" not in json.dumps([dict(found.document), found.warnings, found.lock.to_json()])
    assert "have credentials, which are left out" in found.warnings[0]


def test_pip_and_categories() -> None:
    value = document(
        entry("a"),
        entry("b", category="dev"),
        entry("c", category="docs"),
        entry(
            "Some-Thing",
            manager="pip",
            url="https://files.pythonhosted.org/ab/some_thing-1.0-py3-none-any.whl",
            hash={"sha256": "b" * 64},
        ),
    )
    found = read(value)
    assert found.lock
    assert [p.name for p in found.lock.packages["linux-64"]] == ["a", "b", "pypi:some-thing"]
    assert found.lock.packages["linux-64"][2].channel == "https://pypi.org/simple"
    assert "https://pypi.org/simple" not in found.lock.spec.channels
    assert found.warnings == ("package: the categories 'docs' are left out; main and dev are built",)


URL = "https://conda.example.org/conda-forge/linux-64/"
REJECTED: list[tuple[Any, str]] = [
    (document(entry()) | {"version": 2}, "version: it is '2'; only version 1"),
    (document(entry()) | {"version": True}, "version: it is 'True'; only version 1"),
    (document(entry()) | {"extra": 1}, "extra: unknown key; the keys are version, metadata, package"),
    ({"metadata": 1, "package": []}, "metadata: it must be a mapping"),
    ({"package": []}, "metadata: it is missing"),
    ({"metadata": document()["metadata"]}, "package: it is missing"),
    (document() | {"package": {}}, "package: it must be a list"),
    (document(entry(), author="me"), "metadata.author: unknown key; the keys are content_hash"),
    (document(entry(), git_metadata={"git_branch": "x"}), "metadata.git_metadata.git_branch: unknown key"),
    (document(entry(), time_metadata={"at": "x"}), "metadata.time_metadata.at: unknown key"),
    (document(entry(), inputs_metadata={"e.yml": {"sha1": "x"}}), "metadata.inputs_metadata['e.yml'].sha1: unknown"),
    (document(entry(), custom_metadata={"a": 1}), "metadata.custom_metadata.a: it must be text"),
    (document(entry(), content_hash=...), "metadata.content_hash: it is missing"),
    (document(entry(), channels=...), "metadata.channels: it is missing"),
    (document(entry(), channels=["conda-forge"]), "metadata.channels[0]: it must be a mapping"),
    (document(entry(), channels=[{"url": "x", "priority": 1}]), "metadata.channels[0].priority: unknown key"),
    (document(entry(), platforms=["osx-64"]), "metadata.platforms: it has only osx-64"),
    (document(entry(), platforms=["linux-65"]), "metadata.platforms[0]: 'linux-65' is not a platform"),
    (document(entry(platform="linux-aarch64")), "package[0].platform: 'linux-aarch64' is not among metadata.platforms"),
    (document(entry(extra=1)), "package[0].extra: unknown key"),
    (document(entry(name=...)), "package[0].name: it is missing"),
    (document(entry(version=1.0)), "package[0].version: it must be text, but it is a number"),
    (document(entry(manager="npm")), "package[0].manager: it is 'npm'; it must be conda or pip"),
    (document(entry(url=...)), "package[0].url: it is missing"),
    (document(entry(url=5)), "package[0]: it must be the address of a package"),
    (document(entry(hash={})), "package[0]: it has neither sha256 nor md5"),
    (document(entry(hash={"sha256": "xyz"})), "package[0].sha256: 'xyz' is not a sha256"),
    (document(entry(hash={"md5": "a" * 31})), "package[0].md5: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' is not a md5"),
    (document(entry(hash={"sha1": "a"})), "package[0].hash.sha1: unknown key"),
    (document(entry(dependencies=["x"])), "package[0].dependencies: it must be a mapping"),
    (document(entry(dependencies={"x": 1})), "package[0].dependencies.x: it must be text"),
    (document(entry(category=1)), "package[0].category: it must be text"),
    (document(entry(name="other", url=f"{URL}zlib-1.0-h0_3.conda")), "package[0].name: it is 'other', but the address"),
    (document(entry(version="2.0")), "package[0].version: it is '2.0', but the address says '1.0'"),
    (document(entry(build="h1_0")), "package[0].build: it is 'h1_0', but the address says 'h0_3'"),
    (document(entry(url=f"{URL}evil.zip")), "does not end like a package's address"),
    (document(entry(url=f"{URL}zlib-1.0.conda")), "'zlib-1.0.conda' is not the name of a package"),
    (document(entry(url=f"{URL}../zlib-1.0-h0_3.conda")), "does not end like a package's address"),
    (document(entry(url=f"{URL}%2e%2e%2fzlib-1.0-h0_3.conda")), "does not end like a package's address"),
    (
        document(entry(url="https://conda.example.org/a/../b/linux-64/zlib-1.0-h0_3.conda")),
        "has an empty step, . or .. in its path",
    ),
    (document(entry(url="https://conda.example.org/%2e%2e/b/linux-64/zlib-1.0-h0_3.conda")), "has an empty step, . or"),
    (document(entry(url="file:///x/linux-64/zlib-1.0-h0_3.conda")), "is a file of the machine where the lock was"),
    (document(entry(url="ftp://x/y/linux-64/zlib-1.0-h0_3.conda")), "is not an address that starts with https:// or"),
    (document(entry(url="https:///y/linux-64/zlib-1.0-h0_3.conda")), "has no host"),
    (document(entry(url="https://x:port/y/linux-64/zlib-1.0-h0_3.conda")), "is not an address"),
    (document(entry(url=f"{URL}zlib-1.0-h0_3.conda?x=1")), "has more than a path"),
    (document(entry(url=f"{URL}zlib-1.0-h0_3.conda#x")), "has more than a path"),
    (document(entry(url="https://a/b/linux-64/zlib-1.0-h0_3.conda\n")), "has a space or a control character"),
    (
        document(entry(url=f"{URL}Zlib-1.0-h0_3.conda", name="Zlib")),
        "'Zlib-1.0-h0_3.conda' is not the name of a package",
    ),
    (
        document(entry(url="https://conda.example.org/conda-forge/linux-aarch64/zlib-1.0-h0_3.conda")),
        "package[0]: its address is one of linux-aarch64, but it is locked for linux-64",
    ),
    (
        document(entry(), entry(url=f"{URL}zlib-1.0-h0_4.conda")),
        "package[1]: zlib-1.0-h0_4 and zlib-1.0-h0_3 (package[0]) are both locked for linux-64",
    ),
]


@pytest.mark.parametrize(("value", "message"), REJECTED)
def test_rejections(value: Any, message: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        read(value)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_same_package_twice_is_one() -> None:
    found = read(document(entry(), entry(category="dev")))
    assert found.lock
    assert len(found.lock.packages["linux-64"]) == 1


def test_an_environment_file_is_no_lock() -> None:
    with pytest.raises(InputInvalid, match="it is a lock file; send it as one"):
        read_input(json.dumps(document(entry())).encode(), SETTINGS, is_lock=False)
