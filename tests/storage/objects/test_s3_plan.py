"""Parts keep the limits of multipart uploads, whatever is written and joined."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.objects.protocol import ObjectPart
from storage.objects.s3_plan import (
    LARGEST_PART,
    MOST_PARTS,
    SMALLEST_PART,
    Copied,
    Range,
    Streamed,
    part_size,
    plan_join,
)

TERABYTE = 10**12
SIZES = st.one_of(
    st.integers(0, 3),
    st.integers(SMALLEST_PART - 2, SMALLEST_PART + 2),
    st.integers(0, 2 * SMALLEST_PART),
    st.integers(0, 10**9),
    st.integers(0, TERABYTE),
)


@pytest.mark.parametrize("first", [SMALLEST_PART, 8 << 20, 64 << 20])
def test_ten_thousand_parts_are_enough_for_five_terabytes(first: int) -> None:
    written, parts = 0, 0
    while written < 5 * TERABYTE:
        size = part_size(first, written)
        assert first <= size <= LARGEST_PART
        written += size
        parts += 1
    assert parts <= MOST_PARTS


def test_parts_do_not_grow_before_ten_gigabytes() -> None:
    assert {part_size(8 << 20, written) for written in range(0, 10**10, 8 << 20)} == {8 << 20}


def sources(piece: Copied | Streamed) -> tuple[Range, ...]:
    return (piece.source,) if isinstance(piece, Copied) else piece.sources


@settings(max_examples=500)
@given(st.lists(SIZES, max_size=40))
def test_pieces_are_the_parts_in_order_and_of_allowed_sizes(sizes: list[int]) -> None:
    pieces = plan_join([ObjectPart(str(index), size) for index, size in enumerate(sizes)])
    reached = [0] * len(sizes)
    order = []
    for piece in pieces:
        for each in sources(piece):
            index = int(each.key)
            assert each.start == reached[index] < each.stop
            assert each.size == sizes[index]
            reached[index] = each.stop
            order.append(index)
    assert reached == sizes
    assert order == sorted(order)
    lengths = [sum(each.length for each in sources(piece)) for piece in pieces]
    assert all(length >= SMALLEST_PART for length in lengths[:-1])
    assert all(length <= LARGEST_PART for length in lengths)
    assert len(pieces) <= MOST_PARTS
    streamed = [length for piece, length in zip(pieces, lengths, strict=True) if isinstance(piece, Streamed)]
    assert all(length < 2 * max(SMALLEST_PART, sum(sizes) // 5000 + 1) for length in streamed)


def test_no_more_is_streamed_than_must_be() -> None:
    large, small = SMALLEST_PART * 10, 1000
    pieces = plan_join([ObjectPart("a", large), ObjectPart("b", small), ObjectPart("c", large), ObjectPart("d", small)])
    missing = SMALLEST_PART - small
    assert pieces == [
        Copied(Range("a", 0, large, large)),
        Streamed((Range("b", 0, small, small), Range("c", 0, missing, large))),
        Copied(Range("c", missing, large, large)),
        Streamed((Range("d", 0, small, small),)),
    ]


def test_a_multitude_of_small_parts_is_streamed_in_few_pieces() -> None:
    pieces = plan_join([ObjectPart(str(index), SMALLEST_PART) for index in range(40_000)])
    assert len(pieces) <= MOST_PARTS
    assert sum(each.length for piece in pieces for each in sources(piece)) == 40_000 * SMALLEST_PART
