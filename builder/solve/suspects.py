"""Which questions and channels lately ended a solver's process, so that they are asked where they harm nobody else.

Whoever asks chooses the channels, so a channel is never refused for what was asked of it together with another
stranger's, and the server's own (the setting `channels`) are neither set apart nor refused for it.
"""

from __future__ import annotations

from cachetools import TTLCache

from builder.channels.channel import resolve_address
from builder.channels.policy import ChannelPolicy, list_channels
from builder.names.spec import EnvironmentSpec

SECONDS = 600.0
"""For which a question or a channel is remembered."""
_MOST = 1000


class Suspects:
    """Of one `Solver`."""

    def __init__(self, policy: ChannelPolicy) -> None:
        self._policy = policy
        self._doubted: TTLCache[str, None] = TTLCache(_MOST, SECONDS)
        """Channels (URLs) of questions during which processes were lost."""
        self._apart: TTLCache[EnvironmentSpec | str, None] = TTLCache(_MOST, SECONDS)
        """Questions, and channels of strangers (URLs), that ended a process."""
        self._overdue: TTLCache[EnvironmentSpec, None] = TTLCache(_MOST, SECONDS)
        """Questions whose time was over in the process that all share: what they began may go on in it."""

    def strangers(self, spec: EnvironmentSpec) -> list[str]:
        """The channels of `spec` that are not the server's own, as it names them."""
        return [channel for channel in list_channels(spec) if not self._policy.is_own(channel)]

    def doubt(self, spec: EnvironmentSpec) -> None:
        """Note that a process was lost twice while it had this question, with others perhaps."""
        for channel in list_channels(spec):
            self._doubted[resolve_address(channel, self._policy.alias)] = None

    def note_overdue(self, spec: EnvironmentSpec) -> None:
        """Note that the process that all share did not answer this question in its time."""
        self._overdue[spec] = None

    def note_loss(self) -> None:
        """Note that the process that all share broke a limit or crashed: what was overdue in it may have done that."""
        for spec in list(self._overdue):
            self.set_apart(spec, channels=True)
        self._overdue.clear()

    def set_apart(self, spec: EnvironmentSpec, *, channels: bool) -> None:
        """Note that this question ended a process; with `channels` that it may be for what is in its channels."""
        self._apart[spec] = None
        for channel in self.strangers(spec) if channels else ():
            self._apart[resolve_address(channel, self._policy.alias)] = None

    def are_apart(self, spec: EnvironmentSpec) -> bool:
        """Whether the question is to have a process of its own."""
        return spec in self._apart or any(
            resolve_address(channel, self._policy.alias) in self._apart for channel in self.strangers(spec)
        )

    def are_doubtful(self, spec: EnvironmentSpec) -> bool:
        """Whether the records of its channels are looked at before they are solved with."""
        return bool(self.strangers(spec)) or any(
            resolve_address(channel, self._policy.alias) in self._doubted for channel in list_channels(spec)
        )
