"""All kinds of repositories, in the order in which they are asked whether a name is theirs."""

from __future__ import annotations

from registry.kinds.environments import Environments
from registry.kinds.kind import MakeKind
from registry.kinds.mirrored import Mirrored
from registry.kinds.on_demand import OnDemand
from registry.kinds.pushed import Pushed

ALL_KINDS: tuple[MakeKind, ...] = (
    OnDemand,
    Mirrored,
    Environments,
    Pushed,
)
