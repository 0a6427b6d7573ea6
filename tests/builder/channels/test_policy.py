"""Which channels a name may have, and what is served of those that it may not have any more."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from builder.channels.patterns import Others
from builder.channels.policy import ChannelPolicy
from builder.errors import BuildFailed, ChannelNotAllowed, UnknownArtifact
from builder.names.spec import EnvironmentSpec, PackageItem
from builder.service import BuilderService
from builder.settings import BuilderSettings
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, spec_of
from tests.support.storage.stores import open_stores

ALIAS = "https://conda.anaconda.org"


def allows(policy: ChannelPolicy, channel: str) -> bool:
    try:
        policy.address_of(channel)
    except ChannelNotAllowed:
        return False
    return True


@pytest.mark.parametrize(
    ("patterns", "others", "allowed", "refused"),
    [
        ((), "none", ["conda-forge", f"{ALIAS}/conda-forge/"], ["bioconda", "conda-forge2", "https://h.org/c"]),
        ((), "public", ["conda-forge", "bioconda", "https://h.org/c", "oci://ghcr.io/x"], ["file:///srv/c", "/srv/c"]),
        ((), "all", ["bioconda", "http://127.0.0.1:1/c", "/srv/c"], []),
        (("bio*",), "none", ["bioconda", "conda-forge", f"{ALIAS}/bioconda"], ["abio", "https://h.org/bioconda"]),
        # a list is the whole list, also on loopback
        (("bio*",), "public", ["bioconda"], ["other", "https://h.org/c"]),
        (("*",), "none", ["other", "https://h.org/c"], ["file:///srv/c"]),
        (
            ("https://h.org/*",),
            "none",
            ["https://h.org/a", "https://H.org/a/b"],
            ["http://h.org/a", "https://h.org:8/a"],
        ),
        (
            ("https://*.h.org/team/*",),
            "none",
            ["https://a.h.org/team/x", "https://a.b.h.org/team/x/y"],
            [
                "https://h.org/team/x",
                "https://evil.example/a.h.org/team/x",
                "https://evil.example/.h.org/team/x",
                "https://a.h.org/team/../other",
                "https://a.h.org/team/%2e%2e/other",
                "https://a.h.org/teams/x",
            ],
        ),
        (("file:///srv/*", "/opt/c"), "none", ["file:///srv/a", "/srv/b", "/opt/c"], ["/srv/../etc", "/opt/cc"]),
    ],
)
def test_patterns(patterns: tuple[str, ...], others: Others, allowed: list[str], refused: list[str]) -> None:
    policy = ChannelPolicy.of(("conda-forge",), ALIAS, patterns, others)
    assert [channel for channel in allowed if not allows(policy, channel)] == []
    assert [channel for channel in refused if allows(policy, channel)] == []


@pytest.mark.parametrize("pattern", ["ftp://h.org/*", "https://user:secret@h.org/*", "https://h.org/t/secret/c", ""])
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(ValidationError) as caught:
        BuilderSettings(allowed_channels=(pattern,))
    assert "secret" not in str(caught.value.errors()[0]["msg"])


def test_every_way_to_name_a_channel() -> None:
    policy = ChannelPolicy.of(("conda-forge",), ALIAS, (), "none")
    for spec in (
        EnvironmentSpec((PackageItem("x"),), ("conda-forge", "bioconda")),
        EnvironmentSpec((PackageItem("x", "bioconda"),), ("conda-forge",)),
    ):
        with pytest.raises(ChannelNotAllowed, match="bioconda"):
            policy.check(spec)


def test_what_may_be_inside() -> None:
    policy = ChannelPolicy.of(
        ("http://repo.corp:8080/c", "conda-forge"),
        ALIAS,
        ("https://store.corp/*", "https://*.wild.corp/*", "*"),
        "none",
    )
    named = {"repo.corp:8080", "store.corp:443", "conda.anaconda.org:443"}
    assert policy.internal == named
    assert policy.internal_of("http://repo.corp:8080/c") == named
    assert policy.internal_of("https://a.wild.corp/c") == {*named, "a.wild.corp:443"}
    assert policy.internal_of("stranger") == {"conda.anaconda.org:443"}
    assert policy.internal_of("https://elsewhere.example/c") == frozenset()


# what clients may ask for


async def test_names_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [Package("small", noarch="generic", files={"a": b"a"})])
    settings = BuilderSettings(channels=(channel,), base="scratch", repodata_refresh=0, workers=1)
    async with open_stores(tmp_path / "data") as stores:
        async with BuilderService.open(settings, tmp_path / "data", stores.catalog, stores.blobs) as service:
            root = settings.root
            for name in ("channel.bioconda/small", "bioconda__small", "small/bioconda__other"):
                for tag in ("latest", "2020-01-01"):
                    with pytest.raises(ChannelNotAllowed, match=r"bioconda is not allowed.*allowed_channels"):
                        await service.demand.image(f"{root}/{name}", tag)
                    with pytest.raises(ChannelNotAllowed):
                        await service.demand.artifact(f"{root}/{name}", tag, "conda-lock.yml")
            with pytest.raises(UnknownArtifact):
                await service.demand.artifact(f"{root}/bioconda__small", "latest", "x")
            ticket = await service.demand.image(f"{root}/small", "latest")
            assert await ticket.wait(60)


async def test_what_was_made_of_a_channel_is_served_by_its_lock_alone(tmp_path: Path) -> None:
    """A build on the command line is the administrator's own; of what he disallows since nothing new is made."""
    own = await make_channel(tmp_path / "own", [Package("small", noarch="generic", files={"a": b"a"})])
    other = await make_channel(tmp_path / "team", [Package("big", noarch="generic", files={"b": b"b"})])
    alias = tmp_path.as_uri()
    settings = BuilderSettings(channels=(own,), channel_alias=alias, base="scratch", repodata_refresh=0, workers=1)
    root, data = settings.root, tmp_path / "data"
    async with open_stores(data) as stores:
        async with BuilderService.open(settings, data, stores.catalog, stores.blobs, others="all") as service:
            built = await service.build(spec_of(service, "team__big"))
            only_solved = await service.lock(spec_of(service, f"{other}::big", "small"))
        async with BuilderService.open(settings, data, stores.catalog, stores.blobs) as service:
            with pytest.raises(ChannelNotAllowed, match="team"):
                await service.demand.image(f"{root}/team__big", "latest")
            ticket = await service.demand.image(f"{root}/team__big", f"lock-{built.lock_key[:12]}")
            found = await ticket.wait(60)
            assert found is not None
            assert found.variants == built.variants
            # its archive is not there yet
            archive = await service.demand.artifact(
                f"{root}/team__big", f"lock-{built.lock_key[:12]}", "archive.tar.gz"
            )
            with pytest.raises(BuildFailed, match=r"team is not allowed.*allowed_channels"):
                await archive.wait(60)
            handle = f"{root}/spec.{only_solved.spec.key[:12]}"
            with pytest.raises(ChannelNotAllowed):
                await service.demand.image(handle, "latest")
            with pytest.raises(BuildFailed, match="not allowed"):
                await (await service.demand.image(handle, f"lock-{only_solved.key[:12]}")).wait(60)
            # and past the demand, as a build that is resumed comes
            with pytest.raises(ChannelNotAllowed):
                await service.builder.image(only_solved)
        allowing = settings.model_copy(update={"allowed_channels": ("team",), "failure_memory": 0})
        async with BuilderService.open(allowing, data, stores.catalog, stores.blobs) as service:
            assert await (await service.demand.image(handle, "latest")).wait(60)
