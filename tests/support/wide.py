"""Whether the fault tests run in full, which takes too long for every change: `make faults`."""

from __future__ import annotations

import os

WIDE = bool(os.environ.get("WIDE"))
