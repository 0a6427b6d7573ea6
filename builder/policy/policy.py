"""Which environments may be made and served: the rules of all sources together, each of which has to let it pass.

So a policy is no merged list of values: more rules never allow more, and a refusal names the one rule that it is by.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from builder.canonical import make_key
from builder.channels.channel import resolve_address
from builder.channels.patterns import ANY, fits_pattern, resolve_pattern
from builder.channels.policy import list_channels
from builder.errors import PolicyRefusal
from builder.locks.lock import WHEEL_PREFIX, Lock, LockedPackage, name_distribution
from builder.names.items import write_typed
from builder.names.spec import EnvironmentSpec, PackageItem
from builder.policy.denial import Candidate, matches_item
from builder.policy.rules import Rules
from storage.text import redact

POLICY_FORMAT = 3
"""Part of every policy's key: raise it when the same rules have to refuse other packages."""

DAY = 86_400.0

_SHOWN = 3

ASK_OTHERWISE = "ask for another version, or ask the administrator"


@dataclass(frozen=True)
class Policy:
    """`alias` is where channels are found by name."""

    layers: tuple[Rules, ...] = ()
    alias: str = "https://conda.anaconda.org"

    @cached_property
    def key(self) -> str:
        """Names the policy in keys of what it decides; empty where nothing is ruled."""
        return (
            make_key("policy", [POLICY_FORMAT, self.alias, [each.key for each in self.layers]]) if self.layers else ""
        )

    def to_json(self) -> dict[str, Any]:
        return {"alias": self.alias, "layers": [[each.source, each.written] for each in self.layers]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Raises ValueError."""
        alias = document["alias"]
        return cls(tuple(Rules.of_document(written, source, alias) for source, written in document["layers"]), alias)

    @property
    def counts_days(self) -> bool:
        """Whether what is allowed depends on the time."""
        return any(each.cooldown_days for each in self.layers)

    @cached_property
    def removes(self) -> bool:
        """Whether some packages are kept from the solver."""
        return any(
            each.denied_packages or each.allowed_licenses or each.denied_licenses or each.cooldown_days
            for each in self.layers
        )

    def find_refusal(self, candidate: Candidate, at: float, *, licensed: bool = True) -> str | None:
        """Why a package is not taken at a time (UNIX seconds), as a clause without its name; None if it is.

        Without `licensed` its licence is not known yet.
        """
        for rules in self.layers:
            for denial in rules.denials.get(candidate.name, ()):
                if denial.holds(candidate):
                    return f"is denied by {rules.where('denied_packages')}: {denial}"
            if licensed and (problem := rules.licenses.find_problem(candidate.license)):
                rule = "allowed_licenses" if rules.allowed_licenses else "denied_licenses"
                return f"has {problem} by {rules.where(rule)}"
            if problem := _find_age_problem(rules, candidate, at):
                return problem
        return None


NO_POLICY = Policy()


def merge(policies: Iterable[Policy], alias: str) -> Policy:
    """All rules of all policies, each once. What they allow is what every one of them allows."""
    layers = {layer.key: layer for policy in policies for layer in policy.layers if not layer.is_empty}
    return Policy(tuple(layers.values()), alias)


def find_moment(spec: EnvironmentSpec, now: float) -> float:
    """The time (UNIX seconds) that ages are counted to: of a spec with a last day its end, so that a day's image does
    not depend on when it is asked for.
    """
    if spec.until is None:
        return now
    end = datetime.datetime.combine(spec.until, datetime.time.max, datetime.UTC)
    return min(now, end.timestamp())


def check_spec(policy: Policy, spec: EnvironmentSpec) -> None:
    """What can be told before the solve: channels, platforms, and packages of which no version is left.

    Raises PolicyRefusal.
    """
    for channel in list_channels(spec):
        _check_channel(policy, channel)
    _check_platforms(policy, spec.platforms)
    wheels = [f"{WHEEL_PREFIX}{name_distribution(each)}" for each in spec.requirements]
    for rules in policy.layers:
        for name in [*(item.name for item in spec.items), *wheels]:
            for denial in rules.denials.get(name, ()):
                if denial.is_whole:
                    raise PolicyRefusal(
                        f"{name} is denied by {rules.where('denied_packages')}: {denial}; ask for another "
                        "package, or ask the administrator"
                    )


def check_lock(policy: Policy, lock: Lock, now: float) -> None:
    """All that the rules say of what was decided. Raises PolicyRefusal, which names the first few packages."""
    if not policy.layers:
        return
    _check_platforms(policy, list(lock.packages))
    for channel in dict.fromkeys(package.channel for packages in lock.packages.values() for package in packages):
        _check_channel(policy, channel)
    refusals = list(_find_refusals(policy, lock, now))
    if refusals:
        raise PolicyRefusal(f"{join_refusals(refusals)}; {ASK_OTHERWISE}")
    for platform, packages in lock.packages.items():
        for rules in policy.layers:
            _check_required(rules, platform, packages)
            _check_size(rules, platform, packages)


def join_refusals(refusals: Sequence[str]) -> str:
    """The first few of them, as one line."""
    more = f"; and {len(refusals) - _SHOWN} more" if len(refusals) > _SHOWN else ""
    return "; ".join(refusals[:_SHOWN]) + more


def _find_refusals(policy: Policy, lock: Lock, now: float) -> Iterator[str]:
    seen = set()
    for packages in lock.packages.values():
        for package in packages:
            candidate = describe_package(package, policy.alias)
            if candidate not in seen and (refusal := policy.find_refusal(candidate, now)):
                yield f"{candidate} {refusal}"
            seen.add(candidate)


def describe_package(package: LockedPackage, alias: str) -> Candidate:
    """A package of a lock as rules see it."""
    channel = resolve_address(package.channel, alias)
    return Candidate(package.name, package.version, package.build, channel, package.license, package.dates.age_start)


def _find_age_problem(rules: Rules, candidate: Candidate, at: float) -> str | None:
    if not rules.cooldown_days or rules.is_exempt(candidate.name):
        return None
    where = f"{rules.cooldown_days:g} days ({rules.where('cooldown_days')})"
    if candidate.since is None:
        return f"has no date that says whether it is older than {where}"
    since = candidate.since / 1000
    if since <= at - rules.cooldown_days * DAY:
        return None
    return (
        f"is younger than {where}: it is of {_format_day(since)} and will be taken from "
        f"{_format_day(since + rules.cooldown_days * DAY)} on"
    )


def _format_day(seconds: float) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d}"
    except (OverflowError, ValueError, OSError):
        # a channel may write any number
        return "the far future"


def _check_channel(policy: Policy, channel: str) -> None:
    url = resolve_address(channel, policy.alias)
    for rules in policy.layers:
        patterns = rules.allowed_channels
        if patterns and not any(
            each == ANY or fits_pattern(url, resolve_pattern(each, policy.alias)) for each in patterns
        ):
            raise PolicyRefusal(
                f"channel {redact(channel)} is not among {rules.where('allowed_channels')}: {', '.join(patterns)}; "
                "take the packages from one of those"
            )


def _check_platforms(policy: Policy, platforms: Iterable[str]) -> None:
    for rules in policy.layers:
        for platform in platforms:
            if rules.allowed_platforms and platform not in rules.allowed_platforms:
                allowed = ", ".join(rules.allowed_platforms)
                raise PolicyRefusal(
                    f"platform {platform} is not among {rules.where('allowed_platforms')}: {allowed}; name one of "
                    f"those, as in platform.{rules.allowed_platforms[0]}"
                )


def _check_required(rules: Rules, platform: str, packages: Sequence[LockedPackage]) -> None:
    by_name = {package.name: package for package in packages}
    for item in rules.required_packages:
        package = by_name.get(item.name)
        if package is None or not _satisfies(package, item):
            has = f"has {package}" if package else f"lacks {item.name}"
            raise PolicyRefusal(
                f"the environment {has} for {platform}, and {rules.where('required_packages')} requires "
                f"{item.match_spec()}; add {_write_wish(item)} to what you ask for"
            )


def _write_wish(item: PackageItem) -> str:
    """As people type it."""
    if not item.name.startswith(WHEEL_PREFIX):
        return write_typed(item)
    return f"the PyPI package {item.name.removeprefix(WHEEL_PREFIX)}{item.version}"


def _satisfies(package: LockedPackage, item: PackageItem) -> bool:
    try:
        return matches_item(item, package.version, package.build)
    except ValueError:
        return False


def _check_size(rules: Rules, platform: str, packages: Sequence[LockedPackage]) -> None:
    advice = "ask for fewer packages"
    if rules.max_packages and len(packages) > rules.max_packages:
        raise PolicyRefusal(
            f"the environment has {len(packages)} packages for {platform}, and {rules.where('max_packages')} allows "
            f"{rules.max_packages}; {advice}"
        )
    if not rules.max_packages_size:
        return
    where = rules.where("max_packages_size")
    for package in packages:
        if package.size is None:
            raise PolicyRefusal(f"the channel of {package} does not say its size, which {where} limits; {advice}")
    size = sum(package.size or 0 for package in packages)
    if size > rules.max_packages_size:
        raise PolicyRefusal(
            f"the packages for {platform} have {size:,} bytes, and {where} allows {rules.max_packages_size:,}; {advice}"
        )
