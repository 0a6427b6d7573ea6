"""The settings of a solver."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from builder.channels.logins import NO_LOGINS, Logins
from builder.channels.policy import ChannelPolicy
from builder.solve.virtual_packages import DEFAULT_GLIBC


@dataclass(frozen=True)
class SolverSettings:
    """Times are in seconds, sizes in bytes. `glibc` is assumed of a base layer."""

    repodata: Path
    policy: ChannelPolicy = field(default_factory=ChannelPolicy)
    """Which channels may be read. Its alias is where channels are found by name."""
    credentials: Path | None = None
    logins: Logins = NO_LOGINS
    """Of a namespace: where these cover an address, the credentials of the file are not sent."""
    glibc: str = DEFAULT_GLIBC
    seconds: float = 120
    reading: float | None = None
    """For the indexes of a request's channels. None means the same as `seconds`."""
    memory: int = 4 << 30
    priority: int = 5
    """Added to the process's niceness (nice(2)): answers with stored content go before solves."""
    refresh: float = 900
    """Time between background refreshes of repodata in use; 0 turns them off."""
    repodata_size: int = 2 << 30
    """Size of one expanded index."""
    repodata_disk: int = 16 << 30
    """Size of all indexes on disk."""
    repodata_channels: int = 100
    """Channels whose repodata is kept in memory."""
