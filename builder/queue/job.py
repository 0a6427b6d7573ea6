"""One piece of work for the queue: what to make, from a spec or from a lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

from builder.canonical import make_key
from builder.names.spec import EnvironmentSpec
from storage.environments.vocabulary import make_job_key


@dataclass(frozen=True)
class Job:
    """An image of `spec`, or a file beside it; made from the lock `lock_key` if that is given.

    Or all that a build of a named environment is, which its own tables describe.
    """

    kind: Literal["image", "artifact", "environment"]
    spec: EnvironmentSpec
    lock_key: str | None = None
    artifact: str | None = None
    policy: str = ""
    """The key of the policy that held for whoever asked: a build that began under another is not theirs."""
    logins: str = ""
    """Likewise the key of the credentials of the spec's owner."""
    settings: str = ""
    """Likewise the key of the settings that a build depends on (`builder.queue.settings_key`)."""
    namespace: str = ""
    """The namespace whose rules hold; empty for that of on-demand names."""
    environment_build: int | None = None
    """Which build of an environment it is, for that kind. What else matters is decided when it runs."""

    @cached_property
    def key(self) -> str:
        if self.environment_build is not None:
            return make_job_key(self.environment_build)
        held = [self.policy, self.logins, self.settings, self.namespace]
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
            **({"namespace": self.namespace} if self.namespace else {}),
            **({} if self.environment_build is None else {"environment_build": self.environment_build}),
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
            namespace=document.get("namespace", ""),
            environment_build=document.get("environment_build"),
        )
