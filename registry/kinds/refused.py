"""What may not be built, in words for whoever asks to have it built."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from builder.errors import BuilderError, InputInvalid, TooManyBuilds
from registry.errors import SpecificationRefused


@contextlib.contextmanager
def refusing_specification() -> Iterator[None]:
    """Raise SpecificationRefused where the block refuses a build; "not found", as for a pull, would be of no use here.

    TooManyBuilds and InputInvalid have answers of their own.
    """
    try:
        yield
    except (TooManyBuilds, InputInvalid):
        raise
    except BuilderError as error:
        raise SpecificationRefused(str(error)) from error
