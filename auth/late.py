"""Libraries that are imported when something first needs them, since most servers never do.

What signing in takes is about 12 MB in each process, and nobody signs in to a server for its own machine. Functions
that need such a library import it. Before they run in the event loop, `import_late` imports it in a thread: that takes
up to a tenth of a second, which other requests need not wait for.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module


async def import_late(name: str) -> None:
    """Import the module `name` in a thread, unless it is there."""
    if name not in sys.modules:
        await asyncio.to_thread(import_module, name)
