"""The root of condery's errors, and what can go wrong with bytes at rest.

    ConderyError
    ├── StorageError
    │   ├── BlobUnknown
    │   ├── DigestInvalid
    │   ├── DigestMismatch
    │   └── StorageFull
    └── builder.errors.BuilderError ...

An error is raised where the fact is known and carries its fields; `registry.errors` maps each class to an answer.
"""

from __future__ import annotations

from typing import Any


class ConderyError(Exception):
    """A failure that condery understands; its text is written for the person who asked."""

    def __reduce__(self) -> tuple[Any, ...]:
        # the default calls the class with `args`, which are not what the subclasses' constructors take
        return _restore, (type(self), self.args, self.__dict__)


def _restore(cls: type[ConderyError], args: tuple[Any, ...], fields: dict[str, Any]) -> ConderyError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(fields)
    return error


class StorageError(ConderyError):
    """Bytes or facts could not be read or written."""


class BlobUnknown(StorageError):
    def __init__(self, digest: str) -> None:
        super().__init__(f"blob {digest} is not stored here")
        self.digest = digest


class DigestInvalid(StorageError):
    def __init__(self, text: str) -> None:
        shown = text if len(text) <= 150 else text[:147] + "..."
        super().__init__(f"{shown!r} is not a digest: expected sha256:<64 lower-case hex digits> or sha512:<128>")
        self.text = text


class DigestMismatch(StorageError):
    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"content has digest {found}, not {expected}")
        self.expected = expected
        self.found = found


class StorageFull(StorageError):
    def __init__(self, where: str) -> None:
        super().__init__(f"no space left on the server while writing {where}; ask its administrator to free some")
        self.where = where


class StorageUnavailable(StorageError):
    """The store cannot be used now; the same request may work later."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"the server's storage ({where}) does not work: {reason}; try again, and tell its administrator")
        self.where = where
        self.reason = reason


class ObjectMissing(StorageError):
    def __init__(self, key: str) -> None:
        super().__init__(f"the stored bytes {key} are gone; the server's administrator should run `condery verify`")
        self.key = key
