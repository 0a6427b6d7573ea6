"""An order of packages' own layers that lets clients pull few bytes, found by hill climbing.

A chain is what a client has extracted: it reuses a layer only if all layers below are the same. It pulls the last layer
of each distinct chain. Since one order serves all environments, the chain below a package is a set of layers, and a sum
of random numbers stands for it. Moving a package changes only the sums of the packages that it passes, in the
environments that hold it.

Bundles come after all own layers, so the order of these does not affect the bundles.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

LEAST_GAIN = 1e-9
"""The least that a move has to save, as a share of all pulled bytes."""


@dataclass(frozen=True)
class OwnLayer:
    sha256: str
    size: int


@dataclass(frozen=True)
class _Link:
    """A package in one environment's chain; `chain` stands for the layers up to its own."""

    name: str
    chain: int
    size: int


@dataclass(frozen=True)
class _Move:
    """The best place for a package: anywhere between the places `after` and `before` in the present order."""

    saved: int
    after: int
    before: int


class LayerOrder:
    """`environments` map names to own layers. `order` has all names, the lowest layers first."""

    def __init__(self, environments: Sequence[Mapping[str, OwnLayer]], order: Sequence[str], generator: random.Random):
        numbers: dict[tuple[str, str], int] = defaultdict(lambda: generator.getrandbits(60))
        self.order = list(order)
        self.pulled = 0
        self._places = {name: place for place, name in enumerate(self.order)}
        self._layers = [
            {name: (numbers[name, layer.sha256], layer.size) for name, layer in sorted(environment.items())}
            for environment in environments
        ]
        self._holders: dict[str, list[int]] = defaultdict(list)
        self._chains: dict[str, Counter[int]] = defaultdict(Counter)
        self._links: list[list[_Link]] = []
        for holder, layers in enumerate(self._layers):
            for name in layers:
                self._holders[name].append(holder)
            self._links.append(self._links_of(holder))
            for link in self._links[holder]:
                self._add(link)

    def climb(self, movable: Callable[[str], bool], sweeps: int) -> None:
        """Move each package to its best place, one after another from the first in the order, `sweeps` times."""
        names = list(filter(movable, self.order))
        for _ in range(sweeps):
            before = self.pulled
            for name in names:
                move = self._best_move(name)
                if move.saved > self.pulled * LEAST_GAIN:
                    self._move(name, move)
            if self.pulled == before:
                return

    def _best_move(self, name: str) -> _Move:
        """Compare all places at once: passing another package costs what the two then no longer share."""
        here = self._places[name]
        met = self._find_met(name)
        below = dict.fromkeys(self._holders[name], 0)
        places = sorted(met)
        own = [self._own_bytes(name, below)]
        splits = []
        for place in places:
            splits.append(self._split_bytes(name, met[place], here > place))
            below.update((holder, link.chain) for holder, link in met[place])
            own.append(self._own_bytes(name, below))
        edges = [-1, *places, len(self.order)]
        tail = sum(splits)
        costs = []
        for index, cost in enumerate(own):
            costs.append(cost + tail)
            tail -= splits[index] if index < len(splits) else 0
        now = next(index for index in range(len(own)) if edges[index] < here <= edges[index + 1])
        best = min(range(len(costs)), key=costs.__getitem__)
        return _Move(costs[now] - costs[best], edges[best], edges[best + 1])

    def _find_met(self, name: str) -> dict[int, list[tuple[int, _Link]]]:
        """By place, the links that share a chain with `name`, each with its holder, as if `name` were not in it."""
        met: dict[int, list[tuple[int, _Link]]] = defaultdict(list)
        for holder in self._holders[name]:
            number = 0
            for link in self._links[holder]:
                if link.name == name:
                    number = self._layers[holder][name][0]
                else:
                    without = _Link(link.name, link.chain - number, link.size)
                    met[self._places[link.name]].append((holder, without))
        return met

    def _own_bytes(self, name: str, below: Mapping[int, int]) -> int:
        """The bytes of `name` pulled over the chains `below` it, by holder."""
        layers = ((chain, self._layers[holder][name]) for holder, chain in below.items())
        return sum({chain + number: size for chain, (number, size) in layers}.values())

    def _split_bytes(self, name: str, met: Sequence[tuple[int, _Link]], is_above: bool) -> int:
        """The bytes of another package, with the links `met`, that are pulled only if `name` is below it.

        `is_above` says whether the present order has `name` above it.
        """
        layers: dict[int, set[int]] = defaultdict(set)
        counts: Counter[int] = Counter()
        for holder, link in met:
            layers[link.chain].add(self._layers[holder][name][0])
            counts[link.chain] += 1
        sizes = {link.chain: link.size for _, link in met}
        chains = self._chains[met[0][1].name]
        return sum(
            # if a holder without `name` has the chain, its layer is pulled in any case, and all others are splits
            (len(numbers) - (chains.get(chain, 0) == (counts[chain] if is_above else 0))) * sizes[chain]
            for chain, numbers in layers.items()
        )

    def _move(self, name: str, move: _Move) -> None:
        here = self._places[name]
        there = move.before if move.before <= here else move.after
        low, high = min(here, there), max(here, there)
        for holder in self._holders[name]:
            for link in self._links[holder]:
                if low <= self._places[link.name] <= high:
                    self._remove(link)
        self.order.insert(there, self.order.pop(here))
        for place in range(low, high + 1):
            self._places[self.order[place]] = place
        for holder in self._holders[name]:
            self._links[holder] = self._links_of(holder)
            for link in self._links[holder]:
                if low <= self._places[link.name] <= high:
                    self._add(link)

    def _links_of(self, holder: int) -> list[_Link]:
        links = []
        chain = 0
        for name in sorted(self._layers[holder], key=self._places.__getitem__):
            number, size = self._layers[holder][name]
            chain += number
            links.append(_Link(name, chain, size))
        return links

    def _add(self, link: _Link) -> None:
        chains = self._chains[link.name]
        self.pulled += 0 if chains[link.chain] else link.size
        chains[link.chain] += 1

    def _remove(self, link: _Link) -> None:
        chains = self._chains[link.name]
        chains[link.chain] -= 1
        if not chains[link.chain]:
            del chains[link.chain]
            self.pulled -= link.size
