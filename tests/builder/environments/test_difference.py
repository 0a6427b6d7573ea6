"""What one lock changes against another."""

from __future__ import annotations

from dataclasses import replace

from builder.environments.difference import compare
from builder.locks.lock import Lock, LockedPackage
from builder.names.spec import EnvironmentSpec

SPEC = EnvironmentSpec((), ("conda-forge",))


def package(name: str, version: str = "1", build: str = "0", number: int = 0, size: int | None = 10) -> LockedPackage:
    file = f"{name}-{version}-{build}.conda"
    return LockedPackage(
        name,
        version,
        build,
        number,
        "linux-64",
        "conda-forge",
        f"https://x/{file}",
        file,
        size,
        f"{file} content",
        None,
    )


def lock(*packages: LockedPackage, platform: str = "linux-64") -> Lock:
    return Lock(SPEC, {platform: packages})


def test_each_kind_of_change() -> None:
    before = lock(
        package("gone"), package("newer", "1.9"), package("older", "2"), package("rebuilt", build="h1_0"),
        package("renumbered", build="0", number=0), package("same"), package("strange", "1"),
    )  # fmt: skip
    after = lock(
        package("added", size=5), package("newer", "1.10"), package("older", "1.99"), package("rebuilt", build="h2_0"),
        package("renumbered", build="1", number=1), package("same"), package("strange", "+"),
    )  # fmt: skip
    found = compare(before, after)["linux-64"]
    assert [each.name for each in found.added] == ["added"]
    assert [each.name for each in found.removed] == ["gone"]
    assert [each.after.name for each in found.up] == ["newer", "renumbered"]
    assert [each.after.name for each in found.down] == ["older"]
    assert [each.after.name for each in found.other] == ["rebuilt", "strange"]
    assert (found.size, found.download) == (-5, 55)


def test_a_corrected_record_is_no_change_and_other_content_is_one() -> None:
    one = package("one")
    assert compare(lock(one), lock(replace(one, depends=("two",))))["linux-64"].is_empty
    found = compare(lock(one), lock(replace(one, sha256="other")))["linux-64"]
    assert [each.after.name for each in found.other] == ["one"]


def test_all_is_added_to_nothing_and_platforms_come_and_go() -> None:
    unknown = replace(package("one", size=None), sha256=None)
    assert [each.name for each in compare(None, lock(unknown))["linux-64"].added] == ["one"]
    found = compare(lock(package("one")), lock(package("one"), platform="linux-aarch64"))
    assert [len(found[each].added) for each in ("linux-64", "linux-aarch64")] == [0, 1]
    assert [len(found[each].removed) for each in ("linux-64", "linux-aarch64")] == [1, 0]
