"""The key under which a solve's lock is kept, from everything that it depends on, and how long the lock is valid."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping

from builder.canonical import make_key
from builder.names.spec import EnvironmentSpec
from builder.policy.policy import NO_POLICY, Policy
from builder.settings import BuilderSettings
from builder.solve.virtual_packages import DEFAULT_GLIBC, list_virtual_packages
from storage.clock import is_within

FOREVER = math.inf

RESOLUTION_FORMAT = 1
"""Part of every resolution's key: raise it when the same inputs must be solved again."""


def make_resolution_key(
    spec: EnvironmentSpec,
    glibc: Mapping[str, str],
    channel_alias: str,
    policy: Policy = NO_POLICY,
    logins: str = "",
    pypi: str = "",
) -> str:
    """Make the key of a solve: from the spec, from where its channels are, and from what the image's machine has.

    `glibc` has the version by platform, where known; `logins` is the key of the credentials that channels are shown,
    and `pypi` says what else the PyPI packages depend on.
    """
    machines = {
        platform: list_virtual_packages(platform, glibc.get(platform, DEFAULT_GLIBC), spec.virtual_packages)
        for platform in spec.platforms
    }
    return make_key(
        "resolution",
        {
            "format": RESOLUTION_FORMAT,
            "spec": spec.key,
            "channel_alias": channel_alias.rstrip("/"),
            "machines": machines,
            # keys of before there were policies hold where there is none
            **({"policy": policy.key} if policy.key else {}),
            **({"logins": logins} if logins else {}),
            **({"pypi": pypi} if pypi else {}),
        },
    )


def find_expiry(spec: EnvironmentSpec, solved: float, settings: BuilderSettings) -> float:
    """Return until when (UNIX seconds) a solve answers its spec: for ever if the spec's last day was over by then."""
    expires = solved + settings.fresh_for
    if spec.until is None:
        return expires
    end = datetime.datetime.combine(
        spec.until + datetime.timedelta(days=1), datetime.time(), tzinfo=datetime.UTC
    ).timestamp()
    # a lock of a day that is not over must not outlive that day
    return FOREVER if solved >= end else min(expires, end)


def is_fresh(spec: EnvironmentSpec, solved: float, settings: BuilderSettings, now: float) -> bool:
    """Whether a solve at the time `solved` still answers the spec."""
    return _is_possible(solved, now) and find_expiry(spec, solved, settings) > now


def answers_meanwhile(spec: EnvironmentSpec, solved: float, settings: BuilderSettings, now: float) -> bool:
    """Whether a solve at the time `solved` still answers while its spec is solved again."""
    return (
        spec.until is None
        and _is_possible(solved, now)
        and find_expiry(spec, solved, settings) + settings.stale_for > now
    )


def _is_possible(solved: float, now: float) -> bool:
    """Whether the stored time of a solve can be true: if a clock was ahead, its lock would stay valid for that much
    longer."""
    return is_within(FOREVER, solved, now)
