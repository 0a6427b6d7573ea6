"""What one namespace shows to channels, and what is only its own for that reason.

Channels may answer one namespace what they would not answer another. So nothing that was read with a namespace's
credentials is shared: its specs have an owner, and thereby locks, builds, images and files have keys of their own; its
indexes are read by processes and kept in folders of their own, for exactly these credentials (`builder.solve.own`); and
packages that came with them have an owner, and thereby archives and fragments have keys of their own. It is no use to
another namespace to know the hash of a package, or the handle of a spec.

A namespace's credential is sent to the scheme, host, port and path that it is for, and to nothing else. The file of the
setting `credentials` is everybody's, as ever, where none of the namespace's covers an address.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, Self
from urllib.parse import urlsplit

from builder.canonical import make_key
from builder.channels.channel import Credential, resolve_address
from builder.channels.policy import list_channels
from builder.locks.aside import work_on
from builder.locks.lock import Lock, LockedPackage
from builder.names.spec import EnvironmentSpec
from storage.catalog.credential import Form, NamespaceCredential
from storage.text import Sent, hide

KINDS: dict[Form, str] = {"basic": "BasicHTTP", "bearer": "BearerToken", "conda-token": "CondaToken"}


class NamespaceCredentials(Protocol):
    """`storage.catalog.credentials`."""

    async def find(self, namespace: str) -> Sequence[NamespaceCredential]: ...


@dataclass(frozen=True)
class Logins:
    """The credentials of the namespace `owner` for channels, the longest address first; none without an owner."""

    owner: str = ""
    held: tuple[NamespaceCredential, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, namespace: str, credentials: Iterable[NamespaceCredential]) -> Self:
        held = tuple(each for each in credentials if each.kind == "channel")
        return cls(namespace, held) if held else cls()

    @cached_property
    def key(self) -> str:
        """Which credentials these are; empty for none. A credential that is set anew makes another one."""
        return make_key("logins", [self.owner, sorted(each.id for each in self.held)]) if self.held else ""

    def find(self, url: str) -> Credential | None:
        """The one that may be sent to `url`."""
        for each in self.held:
            if each.covers(url):
                return Credential(KINDS[each.form], each.secret, each.username)
        return None

    def concern(self, spec: EnvironmentSpec, alias: str, indexes: Sequence[str] = ()) -> bool:
        """Whether one of the spec's channels, or of the indexes of its PyPI packages, is asked with these.

        `indexes` are asked where the spec names none. Raises ChannelUnavailable.
        """
        if not self.held:
            return False
        asked = (spec.indexes or indexes) if spec.requirements else ()
        return any(map(self.covers, [*(resolve_address(each, alias) for each in list_channels(spec)), *asked]))

    def covers(self, url: str) -> bool:
        return any(each.covers(url) for each in self.held)

    def own(self, lock: Lock, alias: str) -> Lock:
        """The lock, whose packages have an owner if they, or their channels, are asked with these."""
        if not self.held:
            return lock
        return replace(
            lock,
            packages={
                platform: tuple(self.own_package(package, alias) for package in packages)
                for platform, packages in lock.packages.items()
            },
        )

    def own_package(self, package: LockedPackage, alias: str) -> LockedPackage:
        """The same for one package."""
        if self.covers(package.url) or self.covers(resolve_address(package.channel, alias)):
            return replace(package, owner=self.owner)
        return package

    @cached_property
    def endpoints(self) -> dict[str, frozenset[int]]:
        """The ports of each host that gets one of these: it is not reached at any other while they are in use."""
        found: dict[str, set[int]] = {}
        for each in self.held:
            parts = urlsplit(each.address)
            found.setdefault(parts.hostname or "", set()).add(parts.port or (80 if parts.scheme == "http" else 443))
        return {host: frozenset(ports) for host, ports in found.items()}

    def redact(self, text: str) -> str:
        """Remove these secrets from `text`, in whatever form."""
        return hide(text, self._sent)

    @cached_property
    def _sent(self) -> tuple[Sent, ...]:
        return tuple(Sent(each.secret, each.username) for each in self.held)


NO_LOGINS = Logins()


class NamespaceLogins:
    """Finds a namespace's logins as they are now; `alias` is where channels are found by name, `indexes` are those of
    PyPI packages."""

    def __init__(self, credentials: NamespaceCredentials, alias: str, indexes: Sequence[str] = ()) -> None:
        self._credentials = credentials
        self._alias = alias
        self._indexes = indexes

    async def find(self, namespace: str) -> Logins:
        """Without a namespace there are none. Raises VaultLocked."""
        return Logins.of(namespace, await self._credentials.find(namespace)) if namespace else NO_LOGINS

    async def give_owner(self, spec: EnvironmentSpec, namespace: str) -> EnvironmentSpec:
        """The spec as `namespace` asks for it: its own if its credentials are needed, else anybody's."""
        concerned = (await self.find(namespace)).concern(spec, self._alias, self._indexes)
        return replace(spec, owner=namespace if concerned else "")

    async def own(self, lock: Lock) -> Lock:
        logins = await self.find(lock.spec.owner)
        return await work_on(lambda: logins.own(lock, self._alias), lock)
