"""Environments that go from one data directory to another."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from builder.environments.life import NamedEnvironments
from builder.environments.transfer.exporting import EnvironmentExport
from builder.environments.transfer.importing import EnvironmentImport
from builder.environments.transfer.logs import read_log
from builder.service import BuilderService
from storage.environments.vocabulary import EnvironmentBuild
from tests.support.builder.named import end_of, write_down
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service


def named_of(service: BuilderService) -> NamedEnvironments:
    assert service.environments is not None
    return service.environments


def exporting(service: BuilderService) -> EnvironmentExport:
    return EnvironmentExport(service.builder, named_of(service).store)


def importing(service: BuilderService) -> EnvironmentImport:
    return EnvironmentImport.of(named_of(service))


async def digest_of(service: BuilderService, build: EnvironmentBuild) -> str:
    assert build.image_key is not None
    document = await named_of(service).store.builds.find_image(build.image_key)
    assert document is not None
    return str(document["image"]["variants"][0]["digest"])


@dataclass
class Made:
    channel: str
    builds: list[EnvironmentBuild]
    digests: list[str]
    logs: list[bytes]


SETTINGS = {"kept_builds": 5, "denied_packages": ["bad"]}
"""Of the environment that is exported."""


async def log_of(service: BuilderService, build: EnvironmentBuild) -> bytes:
    """The whole log of a build that has ended, once it has."""
    return await read_log(named_of(service).store.logs, build)


@dataclass
class History:
    """Archives of one environment, which are made once for many tests."""

    directory: Path
    made: Made

    def put(self, out: Path, *, with_bytes: bool = True) -> Made:
        """Copy one to `out`: a tar if its name ends so, else a directory that may be changed."""
        source = self.directory / f"{'archive' if with_bytes else 'plan'}{'.tar' if out.suffix == '.tar' else ''}"
        if out.suffix == ".tar":
            shutil.copyfile(source, out)
        else:
            shutil.copytree(source, out)
        return self.made


async def make_history(tmp_path: Path) -> History:
    """Export an environment with two complete builds, of which the first is the current one, and one that failed."""
    channel = await make_channel(
        tmp_path / "channel",
        [Package("one", depends=["two"]), Package("two", version="1"), Package("two", version="2")],
    )
    async with open_service(tmp_path / "there", channel) as service:
        named = named_of(service)
        builds = [
            await end_of(named, await named.create("team", "Science", write_down(service, *specs), by="ann"))
            for specs in (("one", "two==1"), ("one",), ("tow",))
        ]
        assert [build.status for build in builds] == ["COMPLETED", "COMPLETED", "FAILED"], builds
        await named.store.environments.change("team", "Science", build_id=builds[0].id)
        await named.store.environments.change("team", "Science", description="For the analysis")
        await named.store.settings.change(SETTINGS, "team", "Science")
        digests = [await digest_of(service, build) for build in builds[:2]]
        logs = [await log_of(service, build) for build in builds]
        for name in ("archive", "archive.tar", "plan", "plan.tar"):
            with_bytes = name.startswith("archive")
            exported = await exporting(service).write("team", "Science", tmp_path / name, with_bytes=with_bytes)
            assert exported.builds == 3
    return History(tmp_path, Made(channel, builds, digests, logs))
