"""What is built of a specification, as it is stored with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from builder.names.spec import EnvironmentSpec


@dataclass(frozen=True)
class BuildRequest:
    """`spec` is solved, unless a lock was given: then exactly that is built."""

    spec: EnvironmentSpec
    lock_key: str | None = None
    pip: tuple[str, ...] = ()
    """Requirements of PyPI packages."""
    extends: str | None = None
    """The environment on whose current lock this one builds: `namespace/environment`."""
    origin: Mapping[str, Any] | None = None
    """The build elsewhere that an imported one was (`builder.environments.transfer.origin`)."""

    def to_json(self) -> dict[str, Any]:
        return {
            "spec": self.spec.to_json(),
            "lock_key": self.lock_key,
            "pip": list(self.pip),
            "extends": self.extends,
            # those that have none keep the keys of before
            **({"origin": dict(self.origin)} if self.origin is not None else {}),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            EnvironmentSpec.from_json(document["spec"]),
            document["lock_key"],
            tuple(document["pip"]),
            document["extends"],
            document.get("origin"),
        )
