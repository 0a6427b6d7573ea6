"""Which locks have a package, and which builds are on disk, for lists that are filtered by that.

Locks have numbers, and of each package a row has a bit for each of some locks: the locks that have all of some packages
are found in a few rows, however many builds have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.engine import Database, batches
from storage.database.environment_tables import environment_build, environment_directory, listed_lock, package_locks
from storage.environments.lists.numbers import Numbers, find_numbers

BITS = 1024
"""Locks in a row."""


async def note_packages(database: Database, connection: AsyncConnection, lock_key: str, packages: Iterable[str]) -> int:
    """Record what is in a lock, if that is not known yet, and return the lock's number.

    Who calls it for several locks does so in the order of their keys.
    """
    await _hold(database, connection, lock_key)
    row = listed_lock
    found: int | None = (await connection.execute(select(row.c.number).where(row.c.lock_key == lock_key))).scalar()
    if found is not None:
        return found
    statement = insert(row).values(lock_key=lock_key).returning(row.c.number)
    number = int((await connection.execute(statement)).scalar_one())
    await _set(database, connection, number, sorted(set(packages)))
    return number


async def forget_packages(database: Database, connection: AsyncConnection, lock_keys: Iterable[str]) -> None:
    """Delete what is in locks that no build has any more, whether it was deleted or not."""
    numbers: list[int] = []
    for key in sorted(lock_keys):
        await _hold(database, connection, key)
        unused = select(listed_lock.c.number).where(
            listed_lock.c.lock_key == key,
            ~select(environment_build.c.id).where(environment_build.c.lock_key == key).exists(),
        )
        numbers += (await connection.execute(unused)).scalars()
    for batch in batches(numbers):
        await connection.execute(delete(listed_lock).where(listed_lock.c.number.in_(batch)))
    for block, group in groupby(sorted(numbers), key=lambda number: number // BITS):
        await _clear(database, connection, block, sum(1 << number % BITS for number in group))


async def find_locks(connection: AsyncConnection, packages: Sequence[str]) -> Numbers:
    """The locks that have all of some packages."""
    row = package_locks
    query = select(row.c.name, row.c.block, row.c.bits).where(row.c.name.in_(packages))
    of_package: dict[str, dict[int, int]] = {name: {} for name in packages}
    for name, block, bits in await connection.execute(query):
        of_package[name][block] = int.from_bytes(bits, "little")
    first, *others = sorted(of_package.values(), key=len)
    mask = bytearray(b"0") * (BITS * (max(first, default=-1) + 1))
    for block, bits in first.items():
        for other in others:
            bits &= other.get(block, 0)
        mask[block * BITS : (block + 1) * BITS] = format(bits, f"0{BITS}b").encode()[::-1]
    return Numbers(bytes(mask))


async def find_directories(connection: AsyncConnection) -> Numbers:
    """The builds that are directories on a disk."""
    row = environment_directory
    return await find_numbers(connection, row.c.build, row.c.path.is_not(None))


async def _hold(database: Database, connection: AsyncConnection, lock_key: str) -> None:
    """Hold off all others who record or delete what is in a lock, until the transaction ends."""
    await database.lock(connection, f"packages of lock {lock_key}")


async def _set(database: Database, connection: AsyncConnection, number: int, names: Sequence[str]) -> None:
    block, bit = divmod(number, BITS)
    known: dict[str, int] = {}
    await _hold_block(database, connection, block)
    for batch in batches(names):
        known |= await _read_block(connection, block, batch)
    rows = [{"name": name, "block": block, "bits": _write(known.get(name, 0) | 1 << bit)} for name in names]
    if rows:
        statement = database.insert(package_locks)
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["name", "block"], set_={"bits": statement.excluded.bits}),
            rows,
        )


async def _clear(database: Database, connection: AsyncConnection, block: int, gone: int) -> None:
    """Clear the bits `gone` of all packages."""
    await _hold_block(database, connection, block)
    row = package_locks
    left = {name: bits & ~gone for name, bits in (await _read_block(connection, block, None)).items() if bits & gone}
    for batch in batches(name for name, bits in left.items() if not bits):
        await connection.execute(delete(row).where(row.c.block == block, row.c.name.in_(batch)))
    rows = [{"changed": name, "left": _write(bits)} for name, bits in left.items() if bits]
    if rows:
        change = update(row).where(row.c.block == block, row.c.name == bindparam("changed"))
        await connection.execute(change.values(bits=bindparam("left")), rows)


async def _hold_block(database: Database, connection: AsyncConnection, block: int) -> None:
    """Hold off all others who change the bits of some locks, until the transaction ends."""
    await database.lock(connection, f"packages of locks {block}")


async def _read_block(connection: AsyncConnection, block: int, names: Sequence[str] | None) -> dict[str, int]:
    row = package_locks
    query = select(row.c.name, row.c.bits).where(row.c.block == block)
    if names is not None:
        query = query.where(row.c.name.in_(names))
    return {name: int.from_bytes(bits, "little") for name, bits in await connection.execute(query)}


def _write(bits: int) -> bytes:
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
