"""What cannot be had is refused by name, with what to do."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.channels.index_policy import IndexPolicy
from builder.errors import IndexNotAllowed, PolicyRefusal, SolveError, UnknownPackage
from builder.locks.lock import LockedPackage
from tests.support.builder.locks import package
from tests.support.pypi.index_server import IndexServer
from tests.support.pypi.resolving import PYTHON, Resolving, names, provide, resolving, rules

OLD = "2024-01-01T00:00:00Z"


@pytest.fixture
async def index() -> AsyncIterator[IndexServer]:
    async with IndexServer() as server:
        yield server


@pytest.fixture
async def resolver(tmp_path: Path, index: IndexServer) -> AsyncIterator[Resolving]:
    packages = [PYTHON, provide("numpy", "1.26.4"), provide("pytorch", "2.1.0", "torch")]
    async with resolving(tmp_path, index.url, packages=packages) as opened:
        opened.channel = ("samtools", "sourced")
        yield opened


async def refuse(resolver: Resolving, *requirements: str, **fields: Any) -> str:
    with pytest.raises(SolveError) as caught:
        await resolver.solve(*requirements, **fields)
    return str(caught.value)


async def test_unknown_names(resolver: Resolving, index: IndexServer) -> None:
    index.add("requests", "2.0")
    with pytest.raises(UnknownPackage, match=r"no package reqeusts in .*; did you mean requests\?") as caught:
        await resolver.solve("reqeusts")
    assert caught.value.close == ("requests",)
    assert "there is a conda package samtools: ask for that instead" in await refuse(resolver, "samtools")
    index.add("app", "1.0", ["missing>=2"])
    assert "no package missing in" in await refuse(resolver, "app")
    # what uv remembers of an earlier run is explained as well
    assert "no package missing in" in await refuse(resolver, "app")


async def test_source_code_alone(resolver: Resolving, index: IndexServer) -> None:
    for name in ("sourced", "lonely"):
        index.add_source(name, "1.0")
    text = await refuse(resolver, "sourced")
    assert "PyPI package sourced: the index has no wheels of it, only source code" in text
    assert "ask for the conda package sourced instead" in text
    assert "ask for another package" in await refuse(resolver, "lonely")


async def test_conflicts_with_what_conda_provides(resolver: Resolving, index: IndexServer) -> None:
    index.add("numpy", "2.0")
    index.add("app", "1.0", ["numpy>=2"])
    text = await refuse(resolver, "app")
    assert "numpy>=2" in text
    assert "numpy 1.26.4 comes with the conda package numpy-1.26.4-0, which must stay" in text
    assert "PyPI package app" in text
    assert await resolver.solve("numpy>=1.20") == []
    assert "torch 2.1.0 comes with the conda package pytorch" in await refuse(resolver, "torch>=3")


async def test_requires_python(resolver: Resolving, index: IndexServer) -> None:
    index.add("app", "2.0", **{"requires-python": ">=3.13"})
    text = await refuse(resolver, "app")
    assert "Python>=3.13" in text
    assert "with python 3.12.3 on linux-64" in text
    index.add("app", "1.0", **{"requires-python": ">=3.8"})
    async with resolving(Path(resolver.resolver.folders.working).parent / "other", index.url) as other:
        assert names(await other.solve("app")) == ["app 1.0"]


async def test_wheels_of_other_platforms(resolver: Resolving, index: IndexServer) -> None:
    index.add("app", "1.0", tag="cp312-cp312-manylinux_2_35_x86_64")
    index.add("app", "1.0", tag="cp312-cp312-win_amd64")
    index.add("app", "1.0", tag="cp313-cp313-manylinux_2_17_x86_64")
    assert "app" in await refuse(resolver, "app")


async def test_yanked(resolver: Resolving, index: IndexServer) -> None:
    index.add("app", "2.0", yanked="it was broken")
    index.add("app", "1.0")
    assert names(await resolver.solve("app")) == ["app 1.0"]
    text = await refuse(resolver, "app==2.0")
    assert "some wheels of app were yanked by their authors" in text


async def test_denied_versions_are_not_chosen(resolver: Resolving, index: IndexServer) -> None:
    policy = rules(denied_packages=["pypi:App >=2 # CVE-1"])
    index.add("app", "1.0")
    index.add("app", "2.0")
    assert names(await resolver.solve("app", policy=policy)) == ["app 1.0"]
    text = await refuse(resolver, "app==2.0", policy=policy)
    assert "2.0 is denied by the setting denied_packages: pypi:App >=2: CVE-1" in text
    assert names(await resolver.solve("app", policy=rules(denied_packages=["app"]))) == ["app 2.0"]


async def test_the_cooldown_and_its_exemptions(resolver: Resolving, index: IndexServer) -> None:
    today = f"{datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=2):%Y-%m-%dT%H:%M:%SZ}"
    for name in ("app", "team-app"):
        index.add(name, "1.0", **{"upload-time": OLD})
        index.add(name, "2.0", **{"upload-time": today})
    policy = rules(cooldown_days=7, cooldown_exempt=["pypi:team-*"])
    assert names(await resolver.solve("app", "team-app", policy=policy)) == ["app 1.0", "team-app 2.0"]
    assert "is younger than 7 days" in await refuse(resolver, "app>=2", policy=policy)


async def test_only_what_an_index_gives_a_hash_and_a_time_for(resolver: Resolving, index: IndexServer) -> None:
    index.add("app", "2.0", hashes={})
    index.add("app", "1.0")
    assert names(await resolver.solve("app")) == ["app 1.0"]
    assert "have no sha256 in the index" in await refuse(resolver, "app>=2")
    index.add("timeless", "1.0", **dict[str, Any]({"upload-time": None}))
    text = await refuse(resolver, "timeless", until=datetime.date(2025, 1, 1))
    assert "have no upload time in the index" in text


async def test_requirements_with_addresses(resolver: Resolving) -> None:
    assert "a requirement with an address" in await refuse(
        resolver, "app @ https://example.org/app-1.0-py3-none-any.whl"
    )
    assert "it is not a requirement" in await refuse(resolver, "-r /etc/passwd")


@pytest.mark.parametrize(
    ("packages", "reason"),
    [
        ((), "add python"),
        ((package("python", "3.13.0", "h1_0_cp313t"),), "is free-threaded"),
        ((package("python", "3.9.18", "h1_0_73_pypy"),), "is not CPython"),
        ((package("python", "3.14.0rc1", "h1_0_cp314"),), "ask for a release"),
    ],
)
async def test_pythons_without_wheels(resolver: Resolving, packages: tuple[LockedPackage, ...], reason: str) -> None:
    assert reason in await refuse(replace(resolver, packages=packages), "app")


def test_indexes_that_settings_do_not_allow() -> None:
    policy = IndexPolicy.of(("https://pypi.org/simple",), ("https://*.example.org/*",), "public")
    assert policy.list_asked(()) == ("https://pypi.org/simple",)
    assert policy.list_asked(("https://PyPI.org/simple/", "https://a.example.org/x/simple")) == (
        "https://pypi.org/simple",
        "https://a.example.org/x/simple",
    )
    for refused in ("https://evil.org/simple", "https://evil.org/.example.org/", "http://pypi.org/simple",
                    "https://a.example.org/../simple", "https://u:p@pypi.org/simple", "file:///etc"):  # fmt: skip
        with pytest.raises(IndexNotAllowed) as caught:
            policy.list_asked((refused,))
        assert "u:p" not in str(caught.value)
    assert IndexPolicy.of((), ("*",), "none").address_of("https://evil.org/x") == "https://evil.org/x"


async def test_denied_licences_are_not_chosen_where_there_are_others(resolver: Resolving, index: IndexServer) -> None:
    index.add("app", "2.0", headers=["License-Expression: AGPL-3.0-only"])
    index.add("app", "1.0", headers=["License-Expression: MIT"])
    policy = rules(denied_licenses=["AGPL-*"])
    assert names(await resolver.solve("app", policy=policy)) == ["app 1.0"]
    with pytest.raises(PolicyRefusal, match=r"app-2.0-py3-none-any has .*AGPL-3.0-only.* denied_licenses"):
        await resolver.solve("app>=2", policy=policy)


async def test_a_provided_version_that_cannot_be_compared(tmp_path: Path, index: IndexServer) -> None:
    index.add("odd", "1.0")
    index.add("app", "1.0")
    async with resolving(tmp_path, index.url, packages=[PYTHON, provide("odd", "2024c-1_x")]) as resolver:
        assert names(await resolver.solve("app")) == ["app 1.0"]
        assert "provides it in a version that cannot be compared" in await refuse(resolver, "odd")
