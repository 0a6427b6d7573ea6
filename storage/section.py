"""The base of each part's settings: a frozen model that never shows a secret, and sizes as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from storage.text import HIDDEN, redact


def _hide_all(_text: str) -> str:
    return HIDDEN


@dataclass(frozen=True)
class Secret:
    """Marks a field whose value may hold a secret: `Annotated[str, Secret()]`.

    `hide` turns the value's text into one that may be shown; it gets each text of a list by itself. An invalid value is
    reported without showing it, since nobody knows where its secret is.
    """

    hide: Callable[[str], str] = _hide_all

    @property
    def is_whole(self) -> bool:
        """Whether the whole value is the secret."""
        return self.hide is _hide_all

    @classmethod
    def of(cls, field: FieldInfo) -> Secret | None:
        """The field's mark, if it has one."""
        return next((each for each in field.metadata if isinstance(each, cls)), None)


def hide_secrets(field: FieldInfo, value: object) -> object:
    """The field's value as it may be shown; without a mark, credentials in URLs are still hidden."""
    secret = Secret.of(field)
    return _map_texts(secret.hide if secret else redact, value)


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"(\d{1,15})\s*([kmgt]i?)?b?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes from `10GB` (10^9), `10GiB` (2^30) or a number; raises ValueError."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is not a size: write 500MB, 10GiB, or a number of bytes")
    return int(found[1]) * _UNITS[(found[2] or "").lower()]


def _read(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


AS_SIZE = BeforeValidator(_read)
"""Marks a setting that is a size."""

Size = Annotated[int, AS_SIZE, Field(ge=0)]
"""Bytes: a number, or text such as 50GB or 2GiB."""


def kinds_of(field: FieldInfo) -> frozenset[object]:
    """The field's type, or those of which it may have one: `int | None` gives int and None's."""
    annotation: Any = field.annotation
    return frozenset(get_args(annotation)) or frozenset({annotation})


def _map_texts(change: Callable[[str], str], value: object) -> object:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_map_texts(change, each) for each in value)
    return value


class Section(BaseModel):
    """The settings of one part of the program."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_other_kind(cls, value: object, info: ValidationInfo) -> object:
        """Refuse true and false as numbers, and numbers as true or false, which pydantic would turn into each other."""
        kinds = kinds_of(cls.model_fields[str(info.field_name)])
        if isinstance(value, bool) and kinds & {int, float}:
            raise ValueError("must be a whole number" if int in kinds else "must be a number")
        if type(value) in (int, float) and bool in kinds:
            raise ValueError("must be true or false")
        return value

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        fields = type(self).model_fields
        for name, value in super().__repr_args__():
            yield name, hide_secrets(fields[name], value) if name in fields else value
