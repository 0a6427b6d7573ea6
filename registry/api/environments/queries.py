"""Lists of environments and of builds: questions in the words of conda-store's clients, and answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

from aiohttp import web

from registry.api.documents import answer_data, read_paging, read_sorting
from registry.api.environments.finding import scope_of
from registry.api.environments.writing import DIRECTORY, FILES_OF_TYPES, LOGS
from registry.api.queries import read_word, read_words
from registry.api.streamed import answer_all
from registry.errors import PageInvalid
from storage.environments.lists.scope import Scope
from storage.environments.vocabulary import LARGEST_ID, BuildStatus, Listed, Paging

PAGING = ("page", "size", "sort_by", "order")
ARTIFACT_TYPES = (DIRECTORY, "LOCKFILE", LOGS, "YAML", "CONDA_PACK", "DOCKER_MANIFEST", "CONSTRUCTOR_INSTALLER")
SEVERAL = {"packages": 20}
"""How often a parameter may be there that may be there several times."""
_NUMBER = re.compile(r"[0-9]{1,10}")

Filter_contra = TypeVar("Filter_contra", contravariant=True)
Filter = TypeVar("Filter")
Row = TypeVar("Row")


class Rows(Protocol[Filter_contra, Row]):
    """The environments or the builds of a store."""

    async def list_all(self, scope: Scope, which: Filter_contra, paging: Paging, /) -> Listed[Row]:
        """One page, and how many rows there are in all."""
        ...

    async def list_ids(self, scope: Scope, which: Filter_contra, paging: Paging, /) -> list[int]:
        """Of all rows, in the wanted order."""
        ...

    async def find_many(self, ids: Sequence[int], /) -> list[Row]:
        """In this order."""
        ...


async def answer_rows(
    request: web.Request,
    rows: Rows[Filter, Row],
    which: Filter,
    asked: tuple[Paging, int | None],
    write: Callable[[Row], dict[str, Any]],
) -> web.StreamResponse:
    """Answer with the rows that match `which` and that the sender may read; `asked` is from `read_page`."""
    (paging, page), scope = asked, scope_of(request)
    is_empty = is_never_made(read_artifact(request))

    async def load(ids: Sequence[int]) -> list[dict[str, Any]]:
        return [write(each) for each in await rows.find_many(ids)]

    if page is None:
        return await answer_all(request, [] if is_empty else await rows.list_ids(scope, which, paging), load)
    listed: Listed[Row] = Listed([], 0) if is_empty else await rows.list_all(scope, which, paging)
    return answer_data([write(each) for each in listed.items], page=page, size=paging.limit, count=listed.count)


def read_packages(request: web.Request) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.lower() for each in read_words(request, "packages")))


def read_status(request: web.Request) -> BuildStatus | None:
    text = read_word(request, "status")
    if text is None:
        return None
    if text not in BuildStatus.__members__:
        raise PageInvalid("status", text, f"expected one of {', '.join(BuildStatus)}")
    return BuildStatus(text)


def read_artifact(request: web.Request) -> str | None:
    text = read_word(request, "artifact")
    if text is not None and text not in ARTIFACT_TYPES:
        raise PageInvalid("artifact", text, f"expected one of {', '.join(ARTIFACT_TYPES)}")
    return text


def is_never_made(artifact: str | None) -> bool:
    """Whether no build has it."""
    return artifact is not None and artifact not in (LOGS, DIRECTORY) and artifact not in FILES_OF_TYPES


def read_number(request: web.Request, name: str) -> int | None:
    text = read_word(request, name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= LARGEST_ID:
        raise PageInvalid(name, text, "expected a whole number from 1")
    return int(text)


def read_page(request: web.Request, sorts: Collection[str], default: str) -> tuple[Paging, int | None]:
    """What to ask for, and the number of the page; None if all rows are asked for. Raises PageInvalid."""
    by, descending = read_sorting(request, sorts)
    paging = read_paging(request)
    if paging is None:
        return Paging(sort=by or default, descending=descending), None
    page, size = paging
    return Paging((page - 1) * size, size, by or default, descending), page
