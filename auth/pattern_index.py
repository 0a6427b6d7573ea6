"""Which of a thousand patterns may match a text, without a look at each.

What a pattern says literally has to be in the text. So each is kept under three of its characters that stand together,
those that the fewest patterns before it are kept under, and a text is asked for its own threes. Beginning and end count
as characters. Few patterns say less than three characters together, and those are always candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_BEGIN, _END = "\x02", "\x03"
"""In no pattern; a text that contains them gets more candidates, and no fewer."""

_SIZE = 3


class PatternIndex:
    """Of patterns `namespace/name` in which `*` stands for any characters."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._exact: dict[str, list[int]] = {}
        self._always: list[int] = []
        self._by_piece: dict[str, list[int]] = {}
        for number, pattern in enumerate(patterns):
            self._place(pattern).append(number)

    def candidates(self, entity: str) -> list[int]:
        """The numbers of all patterns that match `entity`, and perhaps of others, in order.

        A namespace alone is found by patterns for all its names.
        """
        found = [*self._always, *self._exact.get(entity, ())]
        text = f"{_BEGIN}{entity}{_END}" if "/" in entity else f"{_BEGIN}{entity}/{_END}"
        pieces = self._by_piece
        if len(pieces) < len(text):
            for piece, numbers in pieces.items():
                if piece in text:
                    found += numbers
        else:
            for place in range(len(text) - _SIZE + 1):
                if (piece := text[place : place + _SIZE]) in pieces:
                    found += pieces[piece]
        # a text may say the same three characters twice
        return sorted(set(found)) if len(found) > 1 else found

    def _place(self, pattern: str) -> list[int]:
        """Where the pattern's number is kept."""
        if "*" not in pattern:
            return self._exact.setdefault(pattern, [])
        literals = f"{_BEGIN}{pattern}{_END}".split("*")
        pieces = [piece for literal in literals for piece in _pieces(literal)]
        if not pieces:
            return self._always
        rarest = min(pieces, key=lambda piece: len(self._by_piece.get(piece, ())))
        return self._by_piece.setdefault(rarest, [])


def _pieces(text: str) -> Iterator[str]:
    return (text[place : place + _SIZE] for place in range(len(text) - _SIZE + 1))
