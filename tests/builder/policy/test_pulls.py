"""What is pulled under a policy: other versions where some are denied, refusals with the reason, and no way around."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from builder.artifacts.artifact import ARTIFACTS
from builder.demand import read_name
from builder.errors import BuilderError, BuildFailed, PolicyRefusal, PolicyUnavailable
from builder.locks.lock import Lock
from builder.names.image_name import parse_specs
from builder.policy.settings import PolicySettings
from builder.service import BuilderService
from storage.database import tables
from tests.support.builder.packages import Package, write_channel
from tests.support.builder.services import make_channel, open_service

ROOT = "conda-store-dynamic"
TODAY = datetime.datetime.now(datetime.UTC).date()
DAY = 86_400
NOW = int(time.time())


def dated(name: str, version: str, days: float, **fields: Any) -> Package:
    """A package that was made so many days ago."""
    return Package(name, version, timestamp=(NOW - int(days * DAY)) * 1000, **fields)


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One that does not say since when it has its packages, like conda-forge."""
    directory = tmp_path_factory.mktemp("channel")
    packages = [
        dated("lib", "1.0", 300),
        dated("lib", "2.0", 200),
        dated("lib", "3.0", 0.01),
        dated("app", "1.0", 100, depends=["lib"]),
        dated("app", "2.0", 50, depends=["lib >=2"]),
        dated("needs-new", "1.0", 100, depends=["lib >=3"]),
        dated("free", "1.0", 100, license="MIT"),
        dated("free", "2.0", 90, license="GPL-3.0-only"),
        dated("copyleft", "1.0", 100, license="GPL-3.0-only"),
        Package("undated", timestamp=None),
    ]
    write_channel(directory, packages)
    return directory.as_uri()


async def pull(service: BuilderService, items: str, tag: str = "latest") -> list[str]:
    """What is in the image, as its lock has it."""
    ticket = await service.demand.image(f"{ROOT}/{items}", tag)
    image = await ticket.wait(60)
    assert image is not None
    return [str(package) for package in (await find_lock(service, image.lock_key)).packages["linux-64"]]


async def find_lock(service: BuilderService, key: str) -> Lock:
    document = await service.builder.catalog.locks.find(key)
    assert document is not None
    return Lock.from_json(document)


async def lock_tag(service: BuilderService, items: str) -> str:
    return next(tag for tag in await service.demand.tags(f"{ROOT}/{items}") if tag.startswith("lock-"))


async def refusal(service: BuilderService, items: str, tag: str = "latest") -> str:
    with pytest.raises(BuilderError) as caught:
        await pull(service, items, tag)
    assert isinstance(caught.value, PolicyRefusal | BuildFailed)
    if isinstance(caught.value, BuildFailed):
        assert caught.value.kind in ("PolicyRefusal", "Unsatisfiable")
    return str(caught.value)


async def set_policy(service: BuilderService, **document: Any) -> None:
    """What the namespace of the on-demand names says from now on."""
    policies = service.builder.catalog.policies
    assert await policies.put(ROOT, json.dumps(document), "a test", create=True)


@pytest.fixture
async def service(tmp_path: Path, channel: str) -> AsyncIterator[BuilderService]:
    async with open_service(tmp_path / "data", channel, workers=1) as running:
        yield running


OTHER_VERSIONS: list[tuple[dict[str, Any], str, list[str]]] = [
    ({"denied_packages": ["lib >=3"]}, "lib", ["lib-2.0-0"]),
    ({"denied_packages": ["lib >=3"]}, "app", ["lib-2.0-0", "app-2.0-0"]),
    ({"denied_packages": ["lib >=2"]}, "app", ["lib-1.0-0", "app-1.0-0"]),
    ({"denied_packages": ["lib 3.0|2.0"]}, "lib", ["lib-1.0-0"]),
    ({"cooldown_days": 7}, "lib", ["lib-2.0-0"]),
    ({"cooldown_days": 250}, "lib", ["lib-1.0-0"]),
    ({"cooldown_days": 7, "cooldown_exempt": ["lib"]}, "lib", ["lib-3.0-0"]),
    ({"denied_licenses": ["GPL-*"]}, "free", ["free-1.0-0"]),
    ({"allowed_licenses": ["MIT"]}, "free", ["free-1.0-0"]),
    ({"required_packages": ["lib"]}, "app", ["lib-3.0-0", "app-2.0-0"]),
    ({"max_packages": 1}, "lib", ["lib-3.0-0"]),
]


async def test_another_version_is_found_where_there_is_one(service: BuilderService) -> None:
    for rules, items, expected in OTHER_VERSIONS:
        await set_policy(service, **rules)
        assert await pull(service, items) == expected, rules


WHERE = f"the policy of namespace {ROOT}"

REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    (
        {"denied_packages": ["lib # CVE-1"]},
        "lib",
        f"lib is denied by {WHERE} (denied_packages): lib: CVE-1; ask for another package",
    ),
    (
        {"denied_packages": ["lib >=3 # CVE-1"]},
        "lib.eq.3.0",
        f"no lib ==3.0 may be taken: 3.0 is denied by {WHERE} (denied_packages): lib >=3: CVE-1; 1.0, 2.0 may be taken",
    ),
    ({"denied_packages": ["lib >=3 # CVE-1"]}, "needs-new", "These were not considered:\nlib 3.0 is denied by"),
    ({"denied_packages": ["lib # CVE-1"]}, "app", "These were not considered:\nlib "),
    ({"cooldown_days": 7}, "needs-new", "lib 3.0 is younger than 7 days"),
    ({"cooldown_days": 7}, "undated", "no undated may be taken: 1.0 has no date"),
    ({"cooldown_days": 3000}, "lib", "no lib may be taken: "),
    ({"denied_licenses": ["GPL-*"]}, "copyleft", "1.0 has the licence GPL-3.0-only, which is denied by"),
    ({"denied_licenses": ["GPL-*"]}, "lib", "has no licence that its channel names"),
    (
        {"required_packages": ["free"]},
        "lib",
        f"the environment lacks free for linux-64, and {WHERE} (required_packages) requires free; add free to what",
    ),
    ({"allowed_platforms": ["linux-aarch64"]}, "lib", "platform linux-64 is not among"),
    ({"max_packages": 1}, "app", "has 2 packages for linux-64"),
    ({"max_packages_size": 10}, "lib", "bytes, and the policy"),
    ({"allowed_channels": ["conda-forge"]}, "lib", f"is not among {WHERE}"),
]


async def test_refusals(service: BuilderService) -> None:
    for rules, items, reason in REFUSALS:
        await set_policy(service, **rules)
        assert reason in await refusal(service, items), rules


async def test_rules_of_the_settings(tmp_path: Path, channel: str) -> None:
    """They hold for every namespace, which may add to them and take nothing away."""
    rules = PolicySettings(denied_packages=("lib >=3 # CVE-1",), max_packages=1)
    async with open_service(tmp_path / "data", channel, rules=rules) as service:
        assert await pull(service, "lib") == ["lib-2.0-0"]
        await set_policy(service, denied_packages=["lib >=2"], max_packages=5)
        assert await pull(service, "lib") == ["lib-1.0-0"]
        assert "and the setting max_packages allows 1" in await refusal(service, "app")
        with pytest.raises(PolicyRefusal, match="max_packages"):
            await service.build(parse_specs(["app"], service.builder.settings))


async def test_the_date_of_the_index_goes_before_that_of_the_build(tmp_path: Path) -> None:
    """CEP 47: whoever builds a package says when that was; the channel says since when it has it."""
    fresh = await make_channel(tmp_path / "fresh", [dated("lib", "1.0", 300)])
    rules = PolicySettings(cooldown_days=7)
    async with open_service(tmp_path / "data", fresh, rules=rules) as service:
        assert f"it is of {TODAY}" in await refusal(service, "lib")


async def test_an_exempted_package_of_today_is_locked_with_its_date(tmp_path: Path) -> None:
    fresh = await make_channel(tmp_path / "fresh", [dated("lib", "1.0", 300)])
    async with open_service(tmp_path / "data", fresh) as service:
        assert await pull(service, "lib") == ["lib-1.0-0"]
        tag = await lock_tag(service, "lib")
        await set_policy(service, cooldown_days=7)
        assert "is younger than 7 days" in await refusal(service, "lib", tag)


async def test_a_day_of_the_past_is_counted_from(service: BuilderService) -> None:
    await set_policy(service, cooldown_days=60)
    # then lib 2.0 was 100 days old, 30 of them ago; app 2.0 was of the day
    day = TODAY - datetime.timedelta(days=100)
    assert await pull(service, "lib", day.isoformat()) == ["lib-2.0-0"]
    day = TODAY - datetime.timedelta(days=170)
    assert await pull(service, "lib", day.isoformat()) == ["lib-1.0-0"]


class TestChanges:
    """A policy that changes between two pulls."""

    async def test_what_is_denied_now_is_not_answered_from_before(self, service: BuilderService) -> None:
        assert await pull(service, "lib") == ["lib-3.0-0"]
        day = TODAY.isoformat()
        assert await pull(service, "lib", day) == ["lib-3.0-0"]
        await set_policy(service, denied_packages=["lib >=3"])
        assert await pull(service, "lib") == ["lib-2.0-0"]
        assert await pull(service, "lib", day) == ["lib-2.0-0"]
        await set_policy(service)
        assert await pull(service, "lib") == ["lib-3.0-0"]

    async def test_a_failure_is_not_remembered_for_other_rules(self, service: BuilderService) -> None:
        await set_policy(service, max_packages=1)
        assert "has 2 packages" in await refusal(service, "app")
        await set_policy(service, max_packages=2)
        assert await pull(service, "app") == ["lib-3.0-0", "app-2.0-0"]

    async def test_a_build_that_began_before_is_not_answered(self, service: BuilderService) -> None:
        """It is refused when it was solved by the old rules, whichever process did that."""
        ticket = await service.demand.image(f"{ROOT}/lib", "latest")
        file = await service.demand.artifact(f"{ROOT}/lib", "latest", "explicit.txt")
        for build_id in (ticket.build_id, file.build_id):
            follower = await service.queue.follow(build_id)
            assert follower is not None
            assert await follower.wait(60)
        await set_policy(service, denied_packages=["lib >=3 # bad"])
        with pytest.raises(PolicyRefusal, match="lib >=3: bad"):
            await ticket.wait(60)
        with pytest.raises(PolicyRefusal, match="lib >=3: bad"):
            await file.wait(60)
        assert await pull(service, "lib") == ["lib-2.0-0"]

    async def test_what_a_digest_names_stays(self, service: BuilderService) -> None:
        image = await (await service.demand.image(f"{ROOT}/lib", "latest")).wait(60)
        assert image is not None
        await set_policy(service, denied_packages=["lib"])
        assert "lib is denied" in await refusal(service, "lib")
        assert await service.builder.catalog.images.find_manifest(image.variants[0].digest) is not None


class TestWaysAround:
    """A puller who wants what is denied."""

    @pytest.fixture
    async def denied(self, service: BuilderService) -> BuilderService:
        """A service on which lib 3.0 was pulled, and then denied."""
        assert await pull(service, "lib") == ["lib-3.0-0"]
        await set_policy(service, denied_packages=["lib >=3 # CVE-1"])
        return service

    async def test_by_the_tag_of_a_lock(self, denied: BuilderService) -> None:
        await set_policy(denied)
        tag = await lock_tag(denied, "lib")
        await set_policy(denied, denied_packages=["lib >=3 # CVE-1"])
        said = await refusal(denied, "lib", tag)
        assert said.startswith(f"{tag} is not served any more: lib-3.0-0 is denied by")
        assert "CVE-1" in said

    async def test_by_the_tag_of_a_lock_whose_image_is_gone(self, denied: BuilderService) -> None:
        tag = await lock_tag(denied, "lib")
        async with denied.builder.blobs.database.writing() as connection:
            await connection.execute(tables.image.delete())
        assert "CVE-1" in await refusal(denied, "lib", tag)

    async def test_by_the_handle_of_a_spec(self, denied: BuilderService) -> None:
        settings, catalog = denied.builder.settings, denied.builder.catalog
        spec = (await read_name(f"{ROOT}/lib", "latest", settings, catalog)).spec
        handle, tag = f"spec.{spec.key[:16]}", await lock_tag(denied, "lib")
        assert await pull(denied, handle) == ["lib-2.0-0"]
        assert "CVE-1" in await refusal(denied, handle, tag)

    async def test_by_a_day(self, denied: BuilderService) -> None:
        assert await pull(denied, "lib", TODAY.isoformat()) == ["lib-2.0-0"]

    @pytest.mark.parametrize("name", ARTIFACTS)
    async def test_by_a_file(self, denied: BuilderService, name: str) -> None:
        tag = await lock_tag(denied, "lib")
        with pytest.raises(PolicyRefusal, match="CVE-1"):
            await denied.demand.artifact(f"{ROOT}/lib", tag, name)
        with pytest.raises(BuildFailed, match=r"no lib ==3\.0 may be taken: 3\.0 is denied"):
            await (await denied.demand.artifact(f"{ROOT}/lib.eq.3.0", "latest", name)).wait(60)

    @pytest.mark.parametrize("items", ["lib.build.0/lib.ge.3", "lib.like.3", "lib.gt.2", "lib.ne.2.0.ne.1.0"])
    async def test_by_other_words(self, denied: BuilderService, items: str) -> None:
        assert "CVE-1" in await refusal(denied, items)

    async def test_by_upper_case(self, denied: BuilderService) -> None:
        with pytest.raises(BuilderError, match="lower-case"):
            await pull(denied, "LIB.eq.3.0")
        await set_policy(denied, denied_packages=["LIB >=3 # CVE-1"])
        assert await pull(denied, "lib") == ["lib-2.0-0"]

    async def test_by_another_channel(self, denied: BuilderService, tmp_path: Path, channel: str) -> None:
        other = await make_channel(tmp_path / "lib-channel", [Package("lib", "3.0"), Package("lib", "2.5")])
        async with open_service(
            tmp_path / "two", channel, allowed_channels=(other,), channel_alias=tmp_path.as_uri(),
            rules=PolicySettings(denied_packages=["lib >=3 # CVE-1"]),
        ) as service:  # fmt: skip
            assert await pull(service, "lib-channel__lib") == ["lib-2.5-0"]
            assert await pull(service, "channel.lib-channel/lib") == ["lib-2.5-0"]
            assert "CVE-1" in await refusal(service, "lib-channel__lib.eq.3.0")


async def test_nobody_elses_package_takes_the_place_of_one_that_is_kept_back(tmp_path: Path) -> None:
    """A name belongs to the first channel that has it, also while nothing of it may be taken there."""
    own = await make_channel(tmp_path / "own", [dated("corp-lib", "1.0", 300)])
    public = tmp_path / "public"
    write_channel(public, [dated("corp-lib", "9.0", 300)])
    async with open_service(
        tmp_path / "data", own, allowed_channels=(public.as_uri(),), channel_alias=tmp_path.as_uri(),
        rules=PolicySettings(cooldown_days=7), channels=(own, public.as_uri()),
    ) as service:  # fmt: skip
        assert "is younger than 7 days" in await refusal(service, "corp-lib")
        assert await pull(service, "public__corp-lib") == ["corp-lib-9.0-0"]


async def test_a_policy_that_cannot_be_read_allows_nothing(service: BuilderService) -> None:
    assert await pull(service, "lib") == ["lib-3.0-0"]
    tag = await lock_tag(service, "lib")
    for text in ("{", "[]", '{"cooldown": 3}', '{"cooldown_days": "x"}'):
        await service.builder.catalog.policies.put(ROOT, text, "a test", create=True)
        for wanted in ("latest", tag, TODAY.isoformat()):
            with pytest.raises(PolicyUnavailable, match="the policy of namespace conda-store-dynamic cannot be used"):
                await pull(service, "lib", wanted)


async def test_what_a_clock_that_was_ahead_let_pass_is_checked_again(
    service: BuilderService, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await pull(service, "lib") == ["lib-3.0-0"]
    tag = await lock_tag(service, "lib")
    await set_policy(service, cooldown_days=7)
    now = time.time
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda: now() + 30 * DAY)
        assert await pull(service, "lib", tag) == ["lib-3.0-0"]
    assert "is younger than 7 days" in await refusal(service, "lib", tag)
