"""What a solver is started with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from builder.channels.policy import ChannelPolicy
from builder.solve.virtual_packages import DEFAULT_GLIBC


@dataclass(frozen=True)
class SolverSettings:
    """Times in seconds, memory in bytes. `glibc` is assumed of a base layer."""

    repodata: Path
    policy: ChannelPolicy = field(default_factory=ChannelPolicy)
    """Of which channels anything is read; its alias is where channels are found by name."""
    credentials: Path | None = None
    glibc: str = DEFAULT_GLIBC
    seconds: float = 120
    reading: float | None = None
    """For the indexes of a request's channels; as many as `seconds` when not told."""
    memory: int = 4 << 30
    priority: int = 5
    """What is added to the process's niceness (nice(2)): who asks for what is there already goes before solves."""
    refresh: float = 900
    """Between background refreshes of repodata in use; 0 turns them off."""
    repodata_size: int = 2 << 30
    """Of one index when expanded."""
    repodata_disk: int = 16 << 30
    """Of all indexes on disk."""
    repodata_channels: int = 100
    """Channels whose repodata is kept in memory."""
