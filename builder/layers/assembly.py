"""The layers of builds: stored ones are recalled, workers assemble the others, and those are then stored.

Assembling occupies processors and writing waits for the disk, so a layer's bytes are flushed to disk while others are
assembled. Records of layers wait for those that are due soon and enter the database in one transaction; the last of
these transactions runs while the caller does whatever needs no stored layers.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from builder.errors import BuilderError, MemoryLimit, WorkerLost
from builder.layers.layer import AssembledLayer, LayerTask, assemble_all, find_fragments
from builder.work.claims import Claim, current_claim, on_behalf_of
from builder.work.gather import gather_all
from builder.work.pool import HEAVY, WorkerPool
from builder.work.shares import group_small
from storage.blobs.joins import Layer
from storage.blobs.layers import KnownLayer, LayerStore
from storage.errors import FragmentsGone, StorageError

CLOSE_SECONDS = 5.0

RECORD_SECONDS = 0.5
"""How long a written layer waits for others. Until it is recorded, its fragments are kept only as a cache."""

OnLayer = Callable[[int, str], None]
"""Called with the number of layers so far, and some of the packages in the layer that was just added."""


@dataclass(frozen=True)
class _Making:
    """One layer in the making."""

    work: asyncio.Task[list[AssembledLayer | BuilderError | StorageError]]
    """Assembles this layer, and others."""
    claim: Claim
    """The part of the build that started it."""
    assembled: asyncio.Future[AssembledLayer]
    stored: asyncio.Task[None]


@dataclass(frozen=True)
class Assembly:
    """Layers in the order of their tasks, with all their fragments. Call `wait_until_stored` before using them."""

    layers: list[AssembledLayer]
    _makings: Sequence[_Making]

    async def wait_until_stored(self) -> None:
        """Wait until all layers are stored and recorded.

        Raises FragmentsGone if fragments are evicted faster than they are stored, StorageFull, StorageUnavailable.
        Assembled layers are stored whether or not anybody waits. Nothing is still in progress when this raises, so that
        another attempt meets no layer that is about to fail.
        """
        work = asyncio.gather(*(making.stored for making in self._makings), return_exceptions=True)
        for result in await asyncio.shield(work):
            if isinstance(result, BaseException):
                raise result


class Layers:
    """Makes each layer once, however many builds want it at the same time."""

    def __init__(self, store: LayerStore, pool: WorkerPool) -> None:
        self.store = store
        self._pool = pool
        self._recorder = _Recorder(store)
        self._makings: dict[str, _Making] = {}

    async def close(self) -> None:
        """Stop assembling. Layers that are already assembled are stored, within CLOSE_SECONDS."""
        makings = list(self._makings.values())
        for making in makings:
            if not making.assembled.done():
                making.work.cancel()
        if makings:
            await asyncio.wait([making.stored for making in makings], timeout=CLOSE_SECONDS)
        for making in makings:
            making.stored.cancel()
        await asyncio.gather(*(making.stored for making in makings), return_exceptions=True)
        await self._recorder.close()

    async def assemble(self, tasks: Sequence[LayerTask], report: OnLayer) -> Assembly:
        """Make the layers that are not stored. Assembled layers are kept even if others fail.

        If the caller is cancelled, the layers are still made. If its build was given up, those that no other build
        wants are stopped. Raises what `builder.layers.layer.assemble` raises, and WorkerLost.
        """
        known = await self.store.find([task.key for task in tasks])
        recalled = await asyncio.to_thread(_recall, [task for task in tasks if task.key in known], known)
        wanted = [task for task in tasks if task.key not in recalled]
        for group in group_small([task for task in wanted if task.key not in self._makings], _measure):
            self._begin(group)
        makings = {task.key: self._makings[task.key] for task in wanted}
        try:
            with contextlib.ExitStack() as joined:
                # join them all before anybody else has a turn, or what another build gives up now would be stopped
                for making in makings.values():
                    joined.enter_context(making.claim.joined(current_claim()))
                layers = await self._wait_for(tasks, recalled, makings, report)
        finally:
            if current_claim().origin.is_given_up:
                self._stop_unwanted(makings)
        return Assembly(layers, list(makings.values()))

    async def _wait_for(
        self,
        tasks: Sequence[LayerTask],
        recalled: Mapping[str, AssembledLayer],
        makings: Mapping[str, _Making],
        report: OnLayer,
    ) -> list[AssembledLayer]:
        done = 0

        async def wait_for(task: LayerTask) -> AssembledLayer:
            nonlocal done
            layer = recalled.get(task.key)
            if layer is None:
                layer = await asyncio.shield(makings[task.key].assembled)
            done += 1
            report(done, _name(task))
            return replace(layer, parts=())

        return await gather_all(wait_for(task) for task in tasks)

    def _stop_unwanted(self, makings: Mapping[str, _Making]) -> None:
        for work in {each.work for each in makings.values() if not (each.claim.is_joined or each.work.done())}:
            # whoever wants a layer of the group from now on starts it anew
            for key, making in list(self._makings.items()):
                if making.work is work:
                    self._forget(key, making.stored)
            work.cancel()

    def _begin(self, group: Sequence[LayerTask]) -> None:
        # a part: a build that joins it does not join the whole build that started it
        with on_behalf_of(current_claim().make_part()) as claim:
            work = asyncio.create_task(self._assemble(group))
        work.add_done_callback(_notice)
        for index, task in enumerate(group):
            assembled: asyncio.Future[AssembledLayer] = asyncio.get_running_loop().create_future()
            stored = asyncio.create_task(self._make(work, index, assembled))
            self._makings[task.key] = _Making(work, claim, assembled, stored)
            stored.add_done_callback(functools.partial(self._forget, task.key))
            for future in (assembled, stored):
                future.add_done_callback(_notice)

    async def _assemble(self, group: Sequence[LayerTask]) -> list[AssembledLayer | BuilderError | StorageError]:
        """Run `assemble_all` in a worker. A layer that kills the worker fails alone."""
        try:
            size = sum(map(_measure, group))
            return await self._pool.run_sized(size, f"transcoding {_name(group[0])}", assemble_all, group)
        except (WorkerLost, MemoryLimit):
            if len(group) == 1:
                raise
        made: list[AssembledLayer | BuilderError | StorageError] = []
        for task in group:
            try:
                made += await self._assemble([task])
            except (WorkerLost, MemoryLimit) as error:
                made.append(error)
        return made

    def _forget(self, key: str, stored: asyncio.Task[None]) -> None:
        making = self._makings.get(key)
        if making and making.stored is stored:
            del self._makings[key]

    async def _make(
        self,
        work: asyncio.Task[list[AssembledLayer | BuilderError | StorageError]],
        index: int,
        assembled: asyncio.Future[AssembledLayer],
    ) -> None:
        with self._recorder.expecting():
            try:
                layer = (await asyncio.shield(work))[index]
                if not isinstance(layer, AssembledLayer):
                    raise layer
            except Exception as error:
                assembled.set_exception(error)
                raise
            except BaseException:
                assembled.cancel()
                raise
            assembled.set_result(layer)
            await self.store.write(layer.to_store)
        await self._recorder.record(layer.to_store)


def _notice(future: asyncio.Future[Any]) -> None:
    """Take note of a failure, so that asyncio does not warn of it when nobody is left to wait for a given-up build."""
    if not future.cancelled():
        future.exception()


def _recall(tasks: Sequence[LayerTask], known: dict[str, KnownLayer]) -> dict[str, AssembledLayer]:
    found = {}
    for task in tasks:
        infos = find_fragments(task)
        if infos is not None:
            layer = known[task.key]
            found[task.key] = AssembledLayer(
                task.key, layer.digest, layer.diff_id, layer.size, layer.uncompressed_size, infos
            )
    return found


@dataclass(frozen=True)
class _Written:
    layer: Layer
    recorded: asyncio.Future[None]


class _Recorder:
    """Records written layers together, once no other is expected or the first has waited long enough."""

    def __init__(self, store: LayerStore) -> None:
        self._store = store
        self._waiting: list[_Written] = []
        self._work: asyncio.Task[None] | None = None
        self._expected = 0
        self._complete = asyncio.Event()

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """A layer is expected for as long as this context is open."""
        self._expected += 1
        self._complete.clear()
        try:
            yield
        finally:
            self._expected -= 1
            if not self._expected:
                self._complete.set()

    async def record(self, layer: Layer) -> None:
        """Record `layer`, and return when it is done. Once started it goes on, even if the caller is cancelled."""
        written = _Written(layer, asyncio.get_running_loop().create_future())
        self._waiting.append(written)
        if self._work is None:
            self._work = asyncio.create_task(self._record())
        await written.recorded

    async def close(self) -> None:
        if work := self._work:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _record(self) -> None:
        try:
            while self._waiting:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._complete.wait(), RECORD_SECONDS)
                batch, self._waiting = self._waiting, []
                await self._record_batch(batch)
        finally:
            self._work = None

    async def _record_batch(self, batch: Sequence[_Written]) -> None:
        try:
            await self._store.record([written.layer for written in batch])
        except FragmentsGone as error:
            if len(batch) == 1:
                _settle(batch, error)
                return
            # some layers' fragments are gone; the others need not be made again for that
            for written in batch:
                await self._record_batch([written])
        except Exception as error:  # noqa: BLE001 - raised by those who wait for it
            _settle(batch, error)
        else:
            _settle(batch, None)


def _settle(batch: Sequence[_Written], error: Exception | None) -> None:
    for written in batch:
        if written.recorded.done():
            continue
        if error:
            written.recorded.set_exception(error)
        else:
            written.recorded.set_result(None)


def _name(task: LayerTask) -> str:
    return ", ".join(fragment.package.title for fragment in task.fragments[:3])


def _measure(task: LayerTask) -> int:
    sizes = (fragment.package.size for fragment in task.fragments)
    return sum(HEAVY if size is None else size for size in sizes)
