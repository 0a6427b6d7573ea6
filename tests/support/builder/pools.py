"""A pool of workers that counts its work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from builder.layers.layer import LayerTask, assemble_all
from builder.work.pool import WorkerPool


class CountingPool(WorkerPool):
    """Counts the layers that it assembles; `then` is called after each."""

    def __init__(self) -> None:
        super().__init__(1)
        self.assembled: list[str] = []
        self.then: Callable[[LayerTask], object] = lambda task: None

    async def run(self, doing: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        tasks: list[LayerTask] = args[0] if function is assemble_all else []
        self.assembled += [task.fragments[0].package.name for task in tasks]
        try:
            return await super().run(doing, function, *args, **kwargs)
        finally:
            for task in tasks:
                self.then(task)
