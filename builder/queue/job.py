"""One piece of work for the queue: what to make, from a spec or from a lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

from builder.canonical import make_key
from builder.names.spec import EnvironmentSpec


@dataclass(frozen=True)
class Job:
    """An image of `spec`, or a file beside it; made from the lock `lock_key` if that is given."""

    kind: Literal["image", "artifact"]
    spec: EnvironmentSpec
    lock_key: str | None = None
    artifact: str | None = None
    policy: str = ""
    """The key of the policy that held for whoever asked: a build that began under another is not theirs."""
    logins: str = ""
    """Likewise the key of the credentials of the spec's owner."""
    settings: str = ""
    """Likewise the key of the settings that a build depends on (`builder.queue.settings_key`)."""

    @cached_property
    def key(self) -> str:
        held = [self.policy, self.logins, self.settings]
        while held and not held[-1]:
            # builds that are recorded without these keep their keys
            held.pop()
        return make_key("job", [self.kind, self.spec.key, self.lock_key, self.artifact, *held])

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "spec": self.spec.to_json(),
            "lock_key": self.lock_key,
            "artifact": self.artifact,
            "policy": self.policy,
            "logins": self.logins,
            "settings": self.settings,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            kind=document["kind"],
            spec=EnvironmentSpec.from_json(document["spec"]),
            lock_key=document["lock_key"],
            artifact=document["artifact"],
            policy=document.get("policy", ""),
            logins=document.get("logins", ""),
            settings=document.get("settings", ""),
        )
