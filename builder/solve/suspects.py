"""Requests and channels that lately ended a solver's process. They are asked where they harm nobody else.

A caller chooses the channels. So a channel is never refused because of a request that also names another stranger's
channel, and the server's own channels (the setting `channels`) are neither set apart nor refused for that.
"""

from __future__ import annotations

from cachetools import TTLCache

from builder.channels.channel import resolve_address
from builder.channels.policy import ChannelPolicy, list_channels
from builder.names.spec import EnvironmentSpec

SECONDS = 600.0
"""Seconds for which a request or a channel is remembered."""
_MOST = 1000


class Suspects:
    """The suspects of one `Solver`."""

    def __init__(self, policy: ChannelPolicy) -> None:
        self._policy = policy
        self._doubted: TTLCache[str, None] = TTLCache(_MOST, SECONDS)
        """Channels (URLs) of requests during which processes were lost."""
        self._apart: TTLCache[EnvironmentSpec | str, None] = TTLCache(_MOST, SECONDS)
        """Requests, and strangers' channels (URLs), that ended a process."""
        self._overdue: TTLCache[EnvironmentSpec, None] = TTLCache(_MOST, SECONDS)
        """Requests that ran out of time in the shared process: what they started may still run in it."""

    def list_strangers(self, spec: EnvironmentSpec) -> list[str]:
        """List the channels of `spec` that are not the server's own, under the spec's names."""
        return [channel for channel in list_channels(spec) if not self._policy.is_own(channel)]

    def doubt(self, spec: EnvironmentSpec) -> None:
        """Note that a process was lost twice while it had this request, perhaps among others."""
        for channel in list_channels(spec):
            self._doubted[resolve_address(channel, self._policy.alias)] = None

    def note_overdue(self, spec: EnvironmentSpec) -> None:
        """Note that the shared process did not answer this request in time."""
        self._overdue[spec] = None

    def note_loss(self) -> None:
        """Note that the shared process broke a limit, crashed or fell silent: an overdue request in it may be the
        cause."""
        for spec in list(self._overdue):
            self.set_apart(spec, channels=True)
        self._overdue.clear()

    def set_apart(self, spec: EnvironmentSpec, *, channels: bool) -> None:
        """Note that this request ended a process; with `channels`, that the content of its channels may be the
        cause."""
        self._apart[spec] = None
        for channel in self.list_strangers(spec) if channels else ():
            self._apart[resolve_address(channel, self._policy.alias)] = None

    def are_apart(self, spec: EnvironmentSpec) -> bool:
        """Whether the request needs a process of its own."""
        return spec in self._apart or any(
            resolve_address(channel, self._policy.alias) in self._apart for channel in self.list_strangers(spec)
        )

    def are_doubtful(self, spec: EnvironmentSpec) -> bool:
        """Whether the records of its channels are checked before solving."""
        return bool(self.list_strangers(spec)) or any(
            resolve_address(channel, self._policy.alias) in self._doubted for channel in list_channels(spec)
        )
