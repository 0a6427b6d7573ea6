"""A real conda channel made from PyPI wheels and the CPython that runs this.

It is for machines that reach no conda channel, for tests and for demonstrations. Its packages are ordinary `.conda`
files, indexed like any other channel's. See docs/sample-channel.md.
"""

from __future__ import annotations

from builder.sample_channel.channel import DEFAULT, ChannelSummary, make_channel
from builder.sample_channel.progress import Progress, Step, show_nothing
from builder.sample_channel.wheel_cache import WheelsUnavailable

__all__ = ["DEFAULT", "ChannelSummary", "Progress", "Step", "WheelsUnavailable", "make_channel", "show_nothing"]
