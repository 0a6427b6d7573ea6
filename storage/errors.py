"""The root of condery's errors, and what can go wrong with bytes at rest.

    ConderyError
    ├── StorageError
    │   ├── BlobUnknown
    │   ├── DigestInvalid
    │   ├── DigestMismatch
    │   ├── StorageFull
    │   ├── StorageUnavailable
    │   ├── StorageBusy        more requests at once than there is room for
    │   ├── TooManyUploads     a caller has begun more uploads than one may have
    │   ├── ServerStopping     the process is being stopped
    │   ├── ObjectMissing      the bytes that a row names are not there
    │   ├── WriteExpired
    │   ├── FragmentsGone, PackagesGone
    │   ├── GarbageCollectionRunning
    │   ├── BackupFailed
    │   ├── CredentialsFileInvalid
    │   ├── VaultKeysInvalid, VaultKeyMissing, VaultLocked
    │   ├── CredentialUnfit, CredentialUnknown
    │   ├── Unsupported         the object store lacks an operation
    │   ├── ContentError       a push, mount or deletion that cannot be done
    │   │   ├── RepositoryUnknown, UploadUnknown
    │   │   ├── ManifestUnknown
    │   │   │   └── TagOfNoBuild    in the repository of an environment
    │   │   ├── ManifestBlobUnknown, BlobInUse, SizeMismatch
    │   │   ├── RangeInvalid
    │   │   ├── TagImmutable, TagTaken, QuotaExceeded
    │   │   ├── RepositoryOfEnvironment
    │   │   └── DeletionForbidden
    │   └── EnvironmentProblem
    │       ├── EnvironmentUnknown, EnvironmentBuildUnknown
    │       └── EnvironmentTaken, WatchedAlready, BuildStateWrong
    ├── JsonInvalid
    ├── ManifestInvalid
    └── builder.errors.BuilderError, auth.errors.AuthError, registry.errors.RequestError ...

Raise an error where the fact is known, with its fields; `registry.answers` maps each class to an answer.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, Self


class ConderyError(Exception):
    """A failure that condery understands; its text is for the person who sent the request."""

    is_mistake: ClassVar[bool] = False
    """Whether a setting or an argument has to be another: then a command ends with exit code 2 instead of 1."""

    def __reduce__(self) -> tuple[Any, ...]:
        # the default calls the class with `args`, which the subclasses' constructors do not take
        return _restore, (type(self), self.args, self.__dict__)

    def for_another(self) -> Self:
        """The same error for one more of those who wait for it, to be raised `from` what caused it first.

        An object that several raise collects the tracebacks and the contexts of all of them.
        """
        return copy.copy(self)


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
        super().__init__(
            f"{quote(text)} is not a digest: expected sha256: and 64, or sha512: and 128 lower-case hex digits"
        )
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
        super().__init__(f"the server's storage ({where}) failed: {reason}; try again, and tell its administrator")
        self.where = where
        self.reason = reason


class StorageBusy(StorageError):
    """There are more requests at once than there is room for; the same request works later."""

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(f"the server is busy: {reason}; try again in {retry_after} seconds")
        self.reason = reason
        self.retry_after = retry_after
        """Seconds."""


class TooManyUploads(StorageError):
    """One caller has begun more uploads than it may have, and neither finished nor given them up."""

    retry_after = 60
    """Seconds."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"you have {most} uploads that are neither finished nor given up, which is the maximum (setting "
            "uploads_per_caller); finish some, give some up with DELETE, or wait until those that nobody continues end"
        )
        self.most = most


class ServerStopping(StorageError):
    """This process is stopping; the same request works after its restart, or at another process."""

    retry_after = 5
    """Seconds."""

    def __init__(self) -> None:
        super().__init__("this server is stopping, perhaps for a restart; try again in a few seconds")


class ObjectMissing(StorageError):
    def __init__(self, key: str) -> None:
        super().__init__(f"the stored bytes {key} are gone; the server's administrator should run `condery verify`")
        self.key = key


class WriteExpired(StorageError):
    def __init__(self) -> None:
        super().__init__("writing took longer than a day, so the bytes were removed; send them again")


class FragmentsGone(StorageError):
    """Fragments were evicted while a layer was made from them. A new attempt makes them again."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(f"{len(keys)} cached pieces of packages were evicted while they were needed; try again")
        self.keys = tuple(keys)


class PackagesGone(StorageError):
    """Unpacked packages were evicted, or are not as they were, while they were needed. A new attempt unpacks them."""

    def __init__(self, packages: Sequence[str]) -> None:
        super().__init__(f"the unpacked package {packages[0]} was evicted while it was needed; try again")
        self.packages = tuple(packages)


class GarbageCollectionRunning(StorageError):
    def __init__(self, who: str) -> None:
        super().__init__(f"{who} is collecting garbage or making a backup; wait until it has ended")
        self.who = who


class VaultKeysInvalid(StorageError):
    is_mistake = True

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"vault_key_file {path}: {reason}")
        self.path = path
        self.reason = reason


class VaultKeyMissing(StorageError):
    """A secret cannot be stored, because there is nothing to encrypt it with."""

    def __init__(self) -> None:
        super().__init__(
            "secrets are stored only encrypted, and there is no key: write one into a file with condery vault new-key, "
            "and set vault_key_file to that file, for the server as well"
        )


class VaultLocked(StorageError):
    """A secret cannot be read."""

    def __init__(self, row: str, reason: str) -> None:
        super().__init__(
            f"{row} cannot be decrypted: {reason}; set vault_key_file to the file that has its key, or delete what "
            "cannot be decrypted with condery vault rotate --forget"
        )
        self.row = row
        self.reason = reason


class CredentialUnfit(StorageError):
    """A credential for a channel or a registry cannot be stored as given."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CredentialUnknown(StorageError):
    def __init__(self, namespace: str, address: str) -> None:
        super().__init__(f"namespace {namespace} has no credential for {address}; see: condery credential list")
        self.namespace = namespace
        self.address = address


class ContentError(StorageError):
    """A push, mount or deletion by a client cannot be done."""


class RepositoryUnknown(ContentError):
    """`hint` says where else what was meant may be."""

    def __init__(self, repository: str, hint: str = "") -> None:
        super().__init__(f"there is no repository {repository} here{f'; {hint}' if hint else ''}")
        self.repository = repository


class ManifestUnknown(ContentError):
    def __init__(self, repository: str, reference: str) -> None:
        super().__init__(f"there is no manifest {reference} in {repository}")
        self.repository = repository
        self.reference = reference


class TagOfNoBuild(ManifestUnknown):
    """A tag in the repository of an environment that means none of its builds."""

    def __init__(self, repository: str, tag: str) -> None:
        ContentError.__init__(
            self,
            f"{repository} is an environment and has no build {quote(tag)}; its tags are latest, a build's number, "
            "lock-<hex>, and a day, of a complete build",
        )
        self.repository = repository
        self.reference = tag


class ManifestBlobUnknown(ContentError):
    def __init__(self, repository: str, digests: Sequence[str]) -> None:
        shown = ", ".join(sorted(digests)[:3]) + (" and others" if len(digests) > 3 else "")
        super().__init__(f"the manifest names {shown}, which {repository} does not have; push or mount that first")
        self.digests = tuple(digests)


class SizeMismatch(ContentError):
    def __init__(self, digest: str, said: int, stored: int) -> None:
        super().__init__(f"the manifest says that {digest} has {said} bytes, but it has {stored}")
        self.digest = digest


class BlobInUse(ContentError):
    def __init__(self, digest: str, manifest: str) -> None:
        super().__init__(f"blob {digest} is part of manifest {manifest}; delete that first")
        self.digest = digest
        self.manifest = manifest


class UploadUnknown(ContentError):
    def __init__(self, upload: str) -> None:
        super().__init__(
            f"there is no upload {quote(upload, 40)} here: it has ended or expired, or is not yours; start a new one"
        )


class RangeInvalid(ContentError):
    """Bytes came out of order. The session lives on; `size` is how many bytes it has."""

    def __init__(self, size: int, reason: str) -> None:
        super().__init__(f"{reason}; {size} bytes of this upload are stored; continue after them")
        self.size = size


class TagImmutable(ContentError):
    """`where` is the setting that has the pattern, or the policy."""

    def __init__(self, repository: str, tag: str, pattern: str, where: str = "immutable_tags") -> None:
        super().__init__(f"{repository}:{tag} must not be changed or deleted ({where} has {pattern!r})")
        self.tag = tag


class TagTaken(ContentError):
    """Whoever pushes may create tags but not move them."""

    def __init__(self, repository: str, tag: str) -> None:
        super().__init__(
            f"{repository}:{tag} is another manifest by now, and you may not move tags of {repository} "
            "(environment::update); push to a new tag"
        )
        self.tag = tag


class DeletionForbidden(ContentError):
    """`where` is the rule by which nothing is deleted."""

    def __init__(self, repository: str, where: str) -> None:
        super().__init__(f"nothing is deleted from {repository}, by {where}; ask the administrator")
        self.repository = repository


class RepositoryOfEnvironment(ContentError):
    """A push to the images of an environment, or a deletion there."""

    def __init__(self, repository: str) -> None:
        super().__init__(
            f"{repository} is an environment: its builds make its images. Change it with "
            f"`condery env update {repository} FILE`, or push such a file as an artifact"
        )
        self.repository = repository


class EnvironmentProblem(StorageError):
    """A request about a named environment cannot be done."""


class EnvironmentUnknown(EnvironmentProblem):
    """`hint` is the end of the sentence: what may be meant."""

    def __init__(self, namespace: str, name: str, hint: str = "") -> None:
        super().__init__(f"there is no environment {quote(f'{namespace}/{name}')} here{hint}")
        self.namespace = namespace
        self.name = name


class EnvironmentBuildUnknown(EnvironmentProblem):
    def __init__(self, build: int) -> None:
        super().__init__(f"there is no build {build} here, or no more")
        self.build = build


class EnvironmentTaken(EnvironmentProblem):
    """The images of an environment would be in a repository that is something else."""

    def __init__(self, namespace: str, name: str, reason: str) -> None:
        super().__init__(f"{quote(f'{namespace}/{name}')} cannot be made: {reason}")
        self.namespace = namespace
        self.name = name


class WatchedAlready(EnvironmentProblem):
    """A file's content was built by another process a moment ago."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{quote(path)} has been built by another process")
        self.path = path


class BuildStateWrong(EnvironmentProblem):
    """A build is in a state in which this cannot be done."""

    def __init__(self, build: int, reason: str) -> None:
        super().__init__(f"build {build}: {reason}")
        self.build = build


class QuotaExceeded(ContentError):
    """`what` is bytes or tags; `help` says how to make room; the blob `pushed` was not counted as present.

    `prefix` names what is limited, which has `held` now, and `also` are the other limits that the same thing exceeds.
    """

    def __init__(
        self,
        prefix: str,
        what: str,
        limit: int,
        needed: int,
        help: str = "delete something first",  # noqa: A002 - the word for it
        pushed: str = "",
        held: int | None = None,
        also: Sequence[QuotaExceeded] = (),
    ) -> None:
        now = "" if held is None else f" (there are {held:,} now)"
        told = f"this would make it {needed:,}{now}"
        if held is not None and limit < held < needed:
            told = f"is over its quota already: there are {held:,}"
        super().__init__(f"{prefix} may hold {limit:,} {what}, but {told}; {help}")
        self.prefix = prefix
        self.what = what
        self.limit = limit
        self.needed = needed
        self.pushed = pushed
        self.held = held
        self.also = also

    @property
    def excess(self) -> int:
        return self.needed - self.limit


class JsonInvalid(ConderyError):
    """A document from outside is not JSON, or is JSON that two readers could understand differently."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"invalid JSON at {where}: {problem}")
        self.where = where
        self.problem = problem


class ManifestInvalid(ConderyError):
    """A document is not a manifest; `where` is a field's path (`layers[2].size`), `problem` what is wrong with it."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"invalid manifest: {where} {problem}")
        self.where = where
        self.problem = problem


class BackupFailed(StorageError):
    """Raised by `condery backup`, never by a request."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"backup: {what}: {reason}")
        self.what = what
        self.reason = reason


def quote(text: str, most: int = 150) -> str:
    """Quote `text` and cut it to `most` characters, so that an answer never grows with what a client sent."""
    return repr(text if len(text) <= most else text[: most - 3] + "...")
