"""Requirements become wheels in the lock, over what conda packages provide: with the real uv, and an index here."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuilderError
from builder.locks.lock import Lock, LockedPackage
from builder.names.spec import EnvironmentSpec
from builder.service import BuilderService
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service, spec_of
from tests.support.pypi.index_server import IndexServer
from tests.support.pypi.resolving import PYTHON, provide

PACKAGES = [
    PYTHON,
    provide("numpy", "1.26.4"),
    provide("pytorch", "2.1.0", "torch", "Provides-Extra: opt", 'Requires-Dist: opt-einsum; extra == "opt"'),
    Package("onlyconda", "1.0"),
    Package("tool", "1.0"),
]


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> str:
    return asyncio.run(make_channel(tmp_path_factory.mktemp("channel"), PACKAGES))


@pytest.fixture
async def index() -> AsyncIterator[IndexServer]:
    async with IndexServer() as server:
        yield server


@pytest.fixture
async def service(tmp_path: Path, channel: str, index: IndexServer) -> AsyncIterator[BuilderService]:
    async with open_service(tmp_path / "data", channel, pypi_indexes=(index.url,), workers=1) as opened:
        yield opened


def want(
    service: BuilderService, *requirements: str, conda: tuple[str, ...] = ("python",), **spec: Any
) -> EnvironmentSpec:
    return replace(spec_of(service, *conda), requirements=tuple(sorted(requirements)), **spec)


def wheels(lock: Lock, platform: str = "linux-64") -> list[LockedPackage]:
    return [package for package in lock.packages[platform] if package.is_wheel]


def names(lock: Lock) -> list[str]:
    return [f"{package.title} {package.version}" for package in wheels(lock)]


async def refuse(service: BuilderService, spec: EnvironmentSpec) -> str:
    with pytest.raises(BuilderError) as caught:
        await service.lock(spec)
    return str(caught.value)


async def test_requirements_become_wheels(service: BuilderService, index: IndexServer) -> None:
    index.add(
        "app", "2.0", ["lib>=1", 'extra-lib; extra == "more"'], headers=["License: MIT", "Requires-Python: >=3.8"]
    )
    lib = index.add("lib", "1.5", tag="cp312-cp312-manylinux_2_17_x86_64")
    index.add("lib", "1.5")
    lock = await service.lock(want(service, "app"))
    assert names(lock) == ["lib 1.5", "app 2.0"]
    first, second = wheels(lock)
    assert first.build == "cp312-cp312-manylinux_2_17_x86_64"
    assert (first.subdir, first.sha256, first.size) == ("linux-64", lib.sha256, len(lib.content))
    assert first.url == f"{index.host}/files/{lib.file_name}"
    assert first.channel == index.url
    assert second.subdir == "noarch"
    assert second.depends == ("lib>=1", 'extra-lib; extra == "more"')
    assert (second.license, second.requires_python) == ("MIT", ">=3.8")
    assert second.timestamp == 1_704_067_200_000
    archives = await service.builder.fetch_archives([first])
    assert archives[lib.sha256].read_bytes() == lib.content


async def test_what_conda_provides_is_not_installed_twice(service: BuilderService, index: IndexServer) -> None:
    index.add("app", "1.0", ["numpy>=1.20", "torch[opt]"])
    index.add("opt-einsum", "3.3")
    index.add("numpy", "2.0")
    index.add("torch", "9.0")
    lock = await service.lock(want(service, "app", conda=("python", "numpy", "pytorch")))
    assert names(lock) == ["app 1.0", "opt-einsum 3.3"]


async def test_preview_and_check_solve_both_kinds(service: BuilderService, index: IndexServer) -> None:
    index.add("app", "1.0")
    spec = want(service, "app")
    await service.builder.check(spec)
    with pytest.raises(BuilderError, match="no package nothing"):
        await service.builder.check(want(service, "nothing"))


@pytest.mark.parametrize("form", ["json", "html"])
async def test_metadata_is_read_from_the_wheel_where_the_index_has_none(
    service: BuilderService, index: IndexServer, form: Any
) -> None:
    index.has_metadata, index.form = False, form
    index.add("app", "1.0", ["lib"])
    index.add("lib", "1.0", headers=["License-Expression: MIT"])
    lock = await service.lock(want(service, "app"))
    assert names(lock) == ["lib 1.0", "app 1.0"]
    assert wheels(lock)[0].license == "MIT"


async def test_what_is_known_is_not_asked_again(service: BuilderService, index: IndexServer) -> None:
    index.add("app", "1.0")
    await service.lock(want(service, "app"))
    asked = len(index.paths)
    await service.lock(want(service, "app>=1"))
    assert index.paths[asked:] == []


async def test_the_last_day_holds_for_wheels_too(service: BuilderService, index: IndexServer) -> None:
    day = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(2)
    index.add("app", "1.0", **{"upload-time": f"{day}T23:59:59.5Z"})
    index.add("app", "2.0", **{"upload-time": f"{day + datetime.timedelta(1)}T00:00:00Z"})
    lock = await service.lock(want(service, "app", until=day))
    assert names(lock) == ["app 1.0"]
    earlier = day - datetime.timedelta(1)
    text = await refuse(service, want(service, "app", until=earlier))
    assert f"2 are newer than that (what is asked for is as of {earlier})" in text


async def test_the_first_index_that_has_a_name_wins(tmp_path: Path, channel: str, index: IndexServer) -> None:
    index.add("private", "1.0")
    async with IndexServer() as public:
        public.add("private", "9.0")
        public.add("other", "1.0")
        async with open_service(tmp_path / "data", channel, pypi_indexes=(index.url, public.url)) as service:
            lock = await service.lock(want(service, "private", "other"))
    assert {package.name: package.channel for package in wheels(lock)} == {
        "pypi:private": index.url,
        "pypi:other": public.url,
    }
