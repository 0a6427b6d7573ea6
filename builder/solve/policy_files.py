"""Policies as the solver's processes are told of them: a file each, because one may have megabytes."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import orjson
from cachetools import LRUCache

from builder.policy.policy import Policy
from storage.clock import is_within
from storage.disk.files import atomic_write

_KEPT_SECONDS = 24 * 3600.0
"""For which a policy that no longer holds is kept, since a solve may be under way."""
_MOST_READ = 4


def write_policy(folder: Path, policy: Policy) -> Path:
    """The file of `policy` in `folder`, written unless it is there. Blocks; raises OSError, StorageFull."""
    path = folder / f"{policy.key}.json"
    if not path.exists():
        folder.mkdir(exist_ok=True)
        _remove_old(folder)
        with atomic_write(path, durable=False) as file:
            file.write(orjson.dumps(policy.to_json()))
    return path


def _remove_old(folder: Path) -> None:
    for path in folder.iterdir():
        # another process may remove them too
        with contextlib.suppress(FileNotFoundError):
            if not is_within(_KEPT_SECONDS, path.stat().st_mtime):
                path.unlink()


class PolicyFiles:
    """The policies that a process was told of, each read once."""

    def __init__(self) -> None:
        self._read: LRUCache[str, Policy] = LRUCache(_MOST_READ)

    async def find(self, path: str | None) -> Policy:
        """No path stands for no rules. Raises OSError, ValueError."""
        if path is None:
            return Policy()
        if path not in self._read:
            self._read[path] = await asyncio.to_thread(_read_policy, Path(path))
        return self._read[path]


def _read_policy(path: Path) -> Policy:
    return Policy.from_json(orjson.loads(path.read_bytes()))
