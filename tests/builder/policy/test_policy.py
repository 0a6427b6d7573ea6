"""The rules of all sources together: each has to let it pass, and the one that does not says where it is set."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuilderError, PolicyRefusal
from builder.locks.lock import Lock, LockedPackage
from builder.names.spec import EnvironmentSpec, PackageItem
from builder.policy.policies import read_document
from builder.policy.policy import DAY, NO_POLICY, Policy, check_lock, check_spec, find_moment, merge
from builder.policy.rules import Rules
from builder.policy.settings import PolicySettings
from builder.solve.resolution import make_resolution_key
from tests.support.builder.locks import package

ALIAS = "https://conda.example.org"
NOW = 1_800_000_000.0
SPEC = EnvironmentSpec((PackageItem("numpy"),), ("conda-forge",))


def settings(**values: Any) -> Policy:
    return merge([Policy((PolicySettings(**values).make_rules(ALIAS),))], ALIAS)


def namespace(**document: Any) -> Policy:
    return merge([Policy((read_document(document, "team", ALIAS),))], ALIAS)


def lock(*packages: LockedPackage, platform: str = "linux-64") -> Lock:
    return Lock(SPEC, {platform: packages})


def numpy(version: str = "2.1.0", **fields: Any) -> LockedPackage:
    return package("numpy", version, **fields)


def days_ago(days: float) -> int:
    return round((NOW - days * DAY) * 1000)


LOCKS: list[tuple[dict[str, Any], Lock, Lock, str]] = [
    (
        {"denied_packages": ["numpy >=2.1 # CVE-2026-1"]},
        lock(numpy("2.1.0")),
        lock(numpy("2.0.0")),
        "numpy-2.1.0-h0_0 is denied by WHERE: numpy >=2.1: CVE-2026-1; ask for another version",
    ),
    (
        {"denied_licenses": ["GPL-*"]},
        lock(numpy(license="GPL-3.0-only")),
        lock(numpy(license="BSD-3-Clause")),
        "numpy-2.1.0-h0_0 has the licence GPL-3.0-only, which is denied by WHERE",
    ),
    (
        {"allowed_licenses": ["MIT"]},
        lock(numpy(license="BSD-3-Clause")),
        lock(numpy(license="MIT OR GPL-3.0-only")),
        "has the licence BSD-3-Clause, which is not allowed by WHERE",
    ),
    (
        {"denied_licenses": ["GPL-*"]},
        lock(numpy(license=None)),
        lock(numpy(license="MIT")),
        "has no licence that its channel names by WHERE",
    ),
    (
        {"cooldown_days": 7},
        lock(numpy(timestamp=days_ago(6.9))),
        lock(numpy(timestamp=days_ago(7))),
        "is younger than 7 days (WHERE): it is of 2027-01-08 and will be taken from 2027-01-15 on",
    ),
    (
        {"cooldown_days": 7},
        lock(numpy(timestamp=days_ago(100), since=days_ago(1))),
        lock(numpy(timestamp=days_ago(0), since=days_ago(8))),
        "is younger than 7 days",
    ),
    ({"cooldown_days": 7}, lock(numpy(timestamp=None)), lock(numpy()), "has no date"),
    ({"cooldown_days": 7}, lock(numpy(timestamp=10**300)), lock(numpy()), "far future"),
    (
        {"required_packages": ["ca-certificates >=2026"]},
        lock(numpy()),
        lock(numpy(), package("ca-certificates", "2026.1.1")),
        "the environment lacks ca-certificates for linux-64, and WHERE requires ca-certificates >=2026; add "
        "ca-certificates.ge.2026 to what you ask for",
    ),
    (
        {"required_packages": ["numpy >=2"]},
        lock(numpy("1.26")),
        lock(numpy("2.0")),
        "the environment has numpy-1.26-h0_0 for linux-64",
    ),
    (
        {"allowed_platforms": ["linux-64"]},
        lock(numpy(), platform="linux-aarch64"),
        lock(numpy()),
        "platform linux-aarch64 is not among WHERE: linux-64",
    ),
    (
        {"max_packages": 1},
        lock(numpy(), package("a")),
        lock(numpy()),
        "has 2 packages for linux-64, and WHERE allows 1",
    ),
    (
        {"max_packages_size": 1000},
        lock(numpy(size=1001)),
        lock(numpy(size=1000)),
        "the packages for linux-64 have 1,001 bytes, and WHERE allows 1,000",
    ),
    ({"max_packages_size": 1000}, lock(numpy(size=None)), lock(numpy(size=1)), "does not say its size"),
]


@pytest.mark.parametrize(("rules", "refused", "passed", "reason"), LOCKS)
def test_locks(rules: dict[str, Any], refused: Lock, passed: Lock, reason: str) -> None:
    (rule,) = rules
    for policy, where in (
        (settings(**rules), f"the setting {rule}"),
        (namespace(**rules), f"the policy of namespace team ({rule})"),
    ):
        with pytest.raises(PolicyRefusal) as caught:
            check_lock(policy, refused, NOW)
        assert reason.replace("WHERE", where) in str(caught.value)
        check_lock(policy, passed, NOW)
        check_lock(NO_POLICY, refused, NOW)


def test_what_is_exempt_may_be_young() -> None:
    policy = settings(cooldown_days=7, cooldown_exempt=["num*"])
    check_lock(policy, lock(numpy(timestamp=days_ago(1))), NOW)
    with pytest.raises(PolicyRefusal):
        check_lock(policy, lock(package("a-numpy", timestamp=days_ago(1))), NOW)


def test_all_reasons_are_told_up_to_three() -> None:
    packages = [package(f"p{number}", license="GPL-3.0-only") for number in range(5)]
    with pytest.raises(PolicyRefusal, match=r"p0-1.*p1-1.*p2-1.*; and 2 more"):
        check_lock(settings(denied_licenses=["GPL-*"]), lock(*packages), NOW)


SPECS: list[tuple[dict[str, Any], EnvironmentSpec, str]] = [
    (
        {"denied_packages": ["numpy # use array"]},
        SPEC,
        "numpy is denied by WHERE: numpy: use array; ask for another pack",
    ),
    (
        {"allowed_platforms": ["linux-aarch64"]},
        SPEC,
        "platform linux-64 is not among WHERE: linux-aarch64; name one of",
    ),
]


@pytest.mark.parametrize(("rules", "spec", "reason"), SPECS)
def test_specs(rules: dict[str, Any], spec: EnvironmentSpec, reason: str) -> None:
    (rule,) = rules
    with pytest.raises(PolicyRefusal) as caught:
        check_spec(settings(**rules), spec)
    assert reason.replace("WHERE", f"the setting {rule}") in str(caught.value)
    check_spec(NO_POLICY, spec)


@pytest.mark.parametrize(
    ("patterns", "channels", "refused"),
    [
        (["conda-forge"], ("conda-forge",), None),
        (["conda-forge"], ("conda-forge", "bioconda"), "bioconda"),
        (["conda-forge"], (f"{ALIAS}/conda-forge",), None),
        (["conda-*"], ("conda-forge/../bioconda",), "conda-forge/../bioconda"),
        (["https://*.example.org/*"], ("https://evil.test/conda.example.org/a",), "https://evil.test"),
        (["*"], ("anything",), None),
        (["https://conda.example.org/team/*"], (f"{ALIAS}/team/x",), None),
        (["https://conda.example.org/team/*"], (f"{ALIAS}/other/x",), "other"),
    ],
)
def test_channels_of_a_namespace(patterns: list[str], channels: tuple[str, ...], refused: str | None) -> None:
    policy = namespace(allowed_channels=patterns)
    spec = replace(SPEC, channels=channels)
    locked = Lock(SPEC, {"linux-64": tuple(numpy(channel=channel) for channel in channels)})
    if refused is None:
        check_spec(policy, spec)
        check_lock(policy, locked, NOW)
        return
    with pytest.raises(BuilderError, match="channel") as of_spec:
        check_spec(policy, spec)
    with pytest.raises(BuilderError, match="channel") as of_lock:
        check_lock(policy, locked, NOW)
    assert refused in str(of_spec.value)
    assert refused in str(of_lock.value)


def test_an_item_of_another_channel_is_a_channel_of_the_spec() -> None:
    spec = EnvironmentSpec((PackageItem("samtools", "bioconda"),), ("conda-forge",))
    with pytest.raises(PolicyRefusal, match="channel bioconda"):
        check_spec(namespace(allowed_channels=["conda-forge"]), spec)


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "denied_packages": st.lists(st.sampled_from(["numpy <2", "numpy >=2", "python"]), max_size=2),
    "denied_licenses": st.lists(st.sampled_from(["MIT", "GPL-*"]), max_size=2),
    "allowed_licenses": st.lists(st.sampled_from(["MIT", "BSD-*"]), max_size=2),
    "cooldown_days": st.sampled_from([0, 1, 30]),
    "cooldown_exempt": st.lists(st.sampled_from(["numpy", "py*"]), max_size=2),
    "max_packages": st.sampled_from([0, 1, 2]),
    "required_packages": st.lists(st.sampled_from(["python", "numpy >=2"]), max_size=2),
    "allowed_platforms": st.lists(st.sampled_from(["linux-64", "linux-aarch64"]), max_size=1),
}
DOCUMENTS = st.fixed_dictionaries({}, optional=VALUES)
PACKAGES = st.lists(
    st.builds(
        lambda name, version, license_, days: package(name, version, license=license_, timestamp=days_ago(days)),
        st.sampled_from(["numpy", "python"]),
        st.sampled_from(["1.0", "2.0", "3.0"]),
        st.sampled_from([None, "MIT", "GPL-2.0-only", "BSD-3-Clause"]),
        st.sampled_from([0.5, 10, 100]),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda each: each.name,
)


def passes(policy: Policy, locked: Lock) -> bool:
    try:
        check_lock(policy, locked, NOW)
    except PolicyRefusal:
        return False
    return True


@given(DOCUMENTS, DOCUMENTS, PACKAGES)
def test_two_policies_allow_what_each_allows(
    first: Mapping[str, Any], second: Mapping[str, Any], packages: list[LockedPackage]
) -> None:
    one, other = namespace(**first), settings(**second)
    locked = lock(*packages)
    both = merge([one, other], ALIAS)
    assert passes(both, locked) == (passes(one, locked) and passes(other, locked))
    assert passes(merge([other, one], ALIAS), locked) == passes(both, locked)
    assert merge([both, one, both], ALIAS).key == both.key
    assert Policy.from_json(both.to_json()).key == both.key


@given(DOCUMENTS, PACKAGES)
def test_a_policy_that_was_handed_over_decides_alike(
    document: Mapping[str, Any], packages: list[LockedPackage]
) -> None:
    policy = namespace(**document)
    assert passes(Policy.from_json(policy.to_json()), lock(*packages)) == passes(policy, lock(*packages))


def test_every_rule_is_part_of_the_key() -> None:
    """Of a solve, so that nothing is answered which was decided by other rules."""
    rules: dict[str, Any] = {
        "denied_packages": ["numpy <2"],
        "required_packages": ["numpy"],
        "allowed_licenses": ["MIT"],
        "denied_licenses": ["MIT"],
        "cooldown_days": 3,
        "cooldown_exempt": ["numpy"],
        "allowed_platforms": ["linux-64"],
        "max_packages": 3,
        "max_packages_size": 3,
        "allowed_channels": ["conda-forge"],
        "unknown_licenses": "take",
    }
    assert rules.keys() == {name for name in Rules.__dataclass_fields__ if name not in ("source", "written")}
    policies = [NO_POLICY, *(namespace(**{name: value}) for name, value in rules.items())]
    policies += [namespace(denied_packages=["numpy <3"]), namespace(denied_packages=["numpy <2 # why"])]
    keys = [make_resolution_key(SPEC, {}, ALIAS, policy) for policy in policies]
    assert len(set(keys)) == len(keys)
    assert keys[0] == make_resolution_key(SPEC, {}, ALIAS)


def test_ages_are_counted_to_the_end_of_a_day() -> None:
    """What a day's tag means does not depend on when it is asked for."""
    day = datetime.date(2026, 1, 31)
    end = datetime.datetime(2026, 2, 1, tzinfo=datetime.UTC).timestamp()
    assert find_moment(replace(SPEC, until=day), NOW) == pytest.approx(end, abs=1)
    assert find_moment(replace(SPEC, until=day), end - 3600) == end - 3600
    assert find_moment(SPEC, NOW) == NOW


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"cooldown": 7}, "'cooldown' is no rule; the rules are"),
        ({"cooldown_days": -1}, "cooldown_days: must be a number"),
        ({"cooldown_days": True}, "cooldown_days: must be a number"),
        ({"cooldown_days": "7"}, "cooldown_days: must be a number"),
        ({"cooldown_days": float("nan")}, "cooldown_days: must be a number"),
        ({"max_packages": 1.5}, "max_packages: must be a whole number"),
        ({"denied_packages": "numpy"}, "denied_packages: must be a list"),
        ({"denied_packages": [1]}, "denied_packages: an entry is a text"),
        ({"denied_packages": ["numpy <<1"]}, "denied_packages: "),
        ({"denied_licenses": ["MIT OR X"]}, "denied_licenses: .* is an expression"),
        ({"allowed_licenses": [["MIT"]]}, "allowed_licenses: must be a list of texts"),
        ({"unknown_licenses": "maybe"}, "unknown_licenses: must be refuse or take"),
        ({"allowed_platforms": ["linux"]}, "allowed_platforms: 'linux' is not a platform"),
        ({"required_packages": ["a|b"]}, "required_packages: "),
        ({"required_packages": ["a <1|>2"]}, "required_packages: .* one range"),
        ({"cooldown_exempt": ["a b"]}, "cooldown_exempt: "),
        ({"allowed_channels": ["http://u:secret@h/c"]}, "allowed_channels: "),
        ({"immutable_tags": ["v1"]}, "REPOSITORY:TAG"),
        ({"no_delete": "yes"}, "no_delete must be true or false"),
        ([], "an object"),
    ],
)
def test_bad_documents(document: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        read_document(document, "team", ALIAS)
    assert "secret" not in str(caught.value)
