"""Where the keys are that encrypt secrets in the database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from storage.section import Secret, Section
from storage.vault.key_text import read_key


class VaultSettings(Section):
    """Keys for secrets in the database. None of them is ever on a command line."""

    vault_key_file: Path | None = Field(
        None,
        description="File with the keys that encrypt credentials and signing keys in the database, one a line, the "
        "newest first; `condery vault new-key` makes one.",
    )
    vault_keys: Annotated[tuple[str, ...], Secret()] = Field(
        (),
        description="The same keys without a file: the newest first, and before those in vault_key_file. It has "
        "no flag.",
    )

    @field_validator("vault_keys")
    @classmethod
    def _are_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            read_key(each)
        return value
