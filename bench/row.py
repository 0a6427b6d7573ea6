"""One measured figure beside its peer's and its aim."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Row:
    """`value` and `peer_value` in `unit`; `must` bounds their ratio, or `value` itself if there is no peer."""

    name: str
    value: float
    unit: str
    must: float
    bound: Literal["at most", "at least"]
    peer: str = ""
    peer_value: float | None = None
    note: str = ""

    @property
    def figure(self) -> float:
        """The figure that `must` bounds."""
        return self.value / self.peer_value if self.peer_value else self.value

    @property
    def holds(self) -> bool:
        return self.figure <= self.must if self.bound == "at most" else self.figure >= self.must

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "figure": self.figure, "holds": self.holds}
