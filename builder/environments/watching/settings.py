"""Which files are watched, and how: settings that `registry.settings` reads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, field_validator

from storage.errors import quote
from storage.oci import REPOSITORY_PART
from storage.section import Section

Polling = Literal["auto", "always", "never"]
LONGEST_PATH = 1024


@dataclass(frozen=True)
class WatchEntry:
    """A file or directory whose environments are in `namespace`; the path is absolute."""

    namespace: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of `NAMESPACE=PATH`. Raises ValueError."""
        namespace, _, path = text.partition("=")
        if not path or not REPOSITORY_PART.fullmatch(namespace):
            raise ValueError(f"{quote(text)} is not NAMESPACE=PATH, such as team=/srv/environments")
        path = os.path.normpath(os.path.expanduser(path))
        if not os.path.isabs(path) or len(path) > LONGEST_PATH:
            raise ValueError(f"{quote(path)} must be an absolute path of at most {LONGEST_PATH} characters")
        return cls(namespace, path)


class WatchSettings(Section):
    """Environment files on this machine."""

    watch: tuple[str, ...] = Field(
        (),
        description="Files and directories of environment files, as NAMESPACE=PATH: what they say is built in that "
        "namespace whenever it changes. Nothing is watched when empty.",
    )
    watch_recursive: bool = Field(False, description="Whether directories below those of `watch` are watched, too.")
    watch_polling: Polling = Field(
        "auto",
        description="Whether directories are looked through every two seconds, rather than when the kernel says that "
        "something has changed: auto does it on file systems of networks and where the kernel watches no more.",
    )

    @property
    def entries(self) -> tuple[WatchEntry, ...]:
        return tuple(WatchEntry.parse(each) for each in self.watch)

    @field_validator("watch")
    @classmethod
    def _are_entries(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        entries = [WatchEntry.parse(each) for each in value]
        for each in entries:
            if [other.path for other in entries].count(each.path) > 1:
                raise ValueError(f"{quote(each.path)} is watched twice")
        return value
