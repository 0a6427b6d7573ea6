"""Makes and publishes directories until it is killed: `python -m tests.support.builder.endless_making FOLDER`.

It writes a line for each that is current.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path

from tests.support.builder.directories import PLATFORM, lock_of, open_directories
from tests.support.builder.packages import PLACEHOLDER, Entry, File, Package

FILES = 400


def packages(version: str) -> list[Package]:
    """Packages of many files, some with the prefix; `share/version` comes last in each."""
    text = f"{PLACEHOLDER}/x {version}\n".encode() * 50
    made = []
    for name in ("left", "right"):
        files: dict[str, Entry] = {f"lib/{name}/{number % 20}/{number}": b"x" * number for number in range(FILES)}
        files |= {f"bin/{name}{number}": File(text, 0o775, "text") for number in range(50)}
        made.append(Package(name, version, files={**files, f"share/{name}": version.encode()}))
    return made


async def make_endlessly(folder: Path) -> None:
    async with open_directories(folder) as directories:
        for number in count(1):
            channel = folder / f"channel-{number}"
            lock = lock_of([package.conda(channel) for package in packages(str(number))])
            await directories.make("team", "tool", str(number), lock, PLATFORM)
            await directories.publish("team", "tool", str(number))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(make_endlessly(Path(sys.argv[1])))
