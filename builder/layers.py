"""The layers of builds: those that are stored are recalled, the others are assembled by workers and stored.

Assembling keeps processors busy and storing waits for the disk, so layers are stored while others are assembled: each
time all that are there by then, which share a wait for the disk and a transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from builder.gather import all_of
from builder.layer import AssembledLayer, LayerTask, assemble, stored_fragments
from builder.pool import WorkerPool
from builder.single_flight import SingleFlight
from storage.blobs import BlobStore, KnownLayer
from storage.errors import FragmentsGone
from storage.joins import Layer

CLOSE_SECONDS = 5.0

Report = Callable[[int, str], None]
"""Is told how many layers there are by now, and some of the packages of the one that was just added."""


class Layers:
    """Makes each layer once, however many builds want it at the same time."""

    def __init__(self, blobs: BlobStore, pool: WorkerPool) -> None:
        self._blobs = blobs
        self._pool = pool
        self._keeper = _Keeper(blobs)
        self._flights: SingleFlight[str, AssembledLayer] = SingleFlight()

    async def close(self) -> None:
        """Stop what is being assembled; what has been is stored."""
        await self._flights.close()
        await self._keeper.close()

    async def make(self, tasks: Sequence[LayerTask], report: Report) -> list[AssembledLayer]:
        """The layers of `tasks`, stored, with all their fragments.

        What has been made is kept, whether or not the others can be. Raises FragmentsGone when fragments are evicted
        faster than they are stored, and what `assemble` raises.
        """
        known = await self._blobs.layers([task.key for task in tasks])
        recalled = await asyncio.to_thread(_recall, [task for task in tasks if task.key in known], known)
        done = 0

        async def one(task: LayerTask) -> AssembledLayer:
            nonlocal done
            layer = recalled.get(task.key) or await self._flights.do(task.key, lambda: self._make(task))
            done += 1
            report(done, _names(task))
            return layer

        # the longest first, so that no process is left alone with a long one at the end
        order = sorted(range(len(tasks)), key=lambda index: -_work(tasks[index]))
        finished = await all_of(one(tasks[index]) for index in order)
        by_index = dict(zip(order, finished, strict=True))
        return [by_index[index] for index in range(len(tasks))]

    async def _make(self, task: LayerTask) -> AssembledLayer:
        layer = await self._pool.run(f"transcoding {_names(task)}", assemble, task)
        await self._keeper.keep(layer.to_store)
        return replace(layer, parts=())


def _recall(tasks: Sequence[LayerTask], known: dict[str, KnownLayer]) -> dict[str, AssembledLayer]:
    found = {}
    for task in tasks:
        infos = stored_fragments(task)
        if infos is not None:
            layer = known[task.key]
            found[task.key] = AssembledLayer(
                task.key, layer.digest, layer.diff_id, layer.size, layer.uncompressed_size, infos
            )
    return found


@dataclass
class _Kept:
    layer: Layer
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class _Keeper:
    """Stores layers as they come, all at once that came while it was busy."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._waiting: list[_Kept] = []
        self._work: asyncio.Task[None] | None = None

    async def keep(self, layer: Layer) -> None:
        """Returns when `layer` is stored. Once it has begun it goes on, also when the caller is cancelled."""
        kept = _Kept(layer)
        self._waiting.append(kept)
        if self._work is None:
            self._work = asyncio.create_task(self._store())
        await kept.done

    async def close(self) -> None:
        """Store what is there, within CLOSE_SECONDS."""
        if work := self._work:
            await asyncio.wait({work}, timeout=CLOSE_SECONDS)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _store(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._store_batch(batch)
        finally:
            self._work = None

    async def _store_batch(self, batch: Sequence[_Kept]) -> None:
        try:
            await self._blobs.put_layers([kept.layer for kept in batch])
        except FragmentsGone as error:
            if len(batch) == 1:
                _settle(batch, error)
                return
            # of some: the others are not to be made again for it
            for kept in batch:
                await self._store_batch([kept])
        except Exception as error:  # noqa: BLE001 - raised by those who wait for it
            _settle(batch, error)
        else:
            _settle(batch, None)


def _settle(batch: Iterable[_Kept], error: Exception | None) -> None:
    for kept in batch:
        if kept.done.done():
            continue
        if error:
            kept.done.set_exception(error)
        else:
            kept.done.set_result(None)


def _names(task: LayerTask) -> str:
    return ", ".join(fragment.package.name for fragment in task.fragments[:3])


def _work(task: LayerTask) -> int:
    return sum(fragment.package.size or 0 for fragment in task.fragments)
