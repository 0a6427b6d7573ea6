"""Which policy holds for a namespace now: the settings', the deny list's and the namespace's own rules together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Protocol, Self

import orjson
from cachetools import LRUCache
from packaging.requirements import Requirement

from builder.channels.channel import Credentials
from builder.errors import PolicyUnavailable
from builder.locks.lock import WHEEL_PREFIX
from builder.policy.deny_list import DenyList
from builder.policy.policy import Policy, merge
from builder.policy.rules import RULES, Rules
from builder.policy.settings import PolicySettings
from storage.environments.settings import SettingLayer
from storage.quotas.namespace_rules import RULES as PUSH_RULES
from storage.quotas.namespace_rules import NamespaceRules

_MOST_KEPT = 1000

_OF_PYPI = {"pypi_denied_packages": "denied_packages", "pypi_required_packages": "required_packages"}
"""Settings of environments that are rules about PyPI packages."""


class NamespaceDocuments(Protocol):
    """What namespaces say, as JSON text (`storage.catalog.policies`)."""

    async def find(self, namespace: str) -> str | None: ...


class SettingLayers(Protocol):
    """What is set for environments (`storage.environments.settings`)."""

    async def list_layers(self, namespace: str, environment: str) -> Sequence[SettingLayer]: ...


class Policies:
    """`alias` is where channels are found by name; `layers` have rules for named environments."""

    def __init__(
        self,
        settings: PolicySettings,
        alias: str,
        documents: NamespaceDocuments,
        deny_list: DenyList | None = None,
        layers: SettingLayers | None = None,
    ) -> None:
        self._rules = settings.make_rules(alias)
        self._alias = alias
        self._documents = documents
        self.deny_list = deny_list
        self._layers = layers
        self._kept: LRUCache[tuple[str, str, str, Sequence[SettingLayer]], Policy] = LRUCache(_MOST_KEPT)
        """By namespace, its document, the key of the deny list, and what is set for environments."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        settings: PolicySettings,
        alias: str,
        documents: NamespaceDocuments,
        folder: Path,
        credentials: Credentials,
        changed: Callable[[], None] = lambda: None,
        layers: SettingLayers | None = None,
    ) -> AsyncIterator[Self]:
        """Read the deny list of the settings while the block runs; `changed` is called when it is another."""
        if settings.deny_list is None:
            yield cls(settings, alias, documents, None, layers)
            return
        async with DenyList.open(
            settings.deny_list, settings.deny_list_refresh, folder, alias, credentials, changed
        ) as deny_list:
            yield cls(settings, alias, documents, deny_list, layers)

    @property
    def status(self) -> str | None:
        """How the deny list stands, in a few words; None without one."""
        return self.deny_list.status if self.deny_list else None

    def find_obstacle(self) -> str | None:
        """Why nothing may be built at all, if so."""
        try:
            _ = self.deny_list and self.deny_list.rules
        except PolicyUnavailable as error:
            return f"nothing is built until {error.what} is read: {error.reason}"
        return None

    async def find(self, namespace: str, environment: str | None = None) -> Policy:
        """The policy that holds for `namespace` now. Raises PolicyUnavailable.

        With the name of an environment it is that one's, with what is set for it; an empty name is a new one's.
        """
        denied = self.deny_list.rules if self.deny_list else None
        text = await self._documents.find(namespace) or "{}"
        named = await self._list_layers(namespace, environment)
        key = (namespace, text, denied.key if denied else "", named)
        if key not in self._kept:
            own = _read(namespace, text, self._alias)
            rules = [
                self._rules,
                *([denied] if denied else []),
                own,
                *(_read_layer(each, self._alias) for each in named),
            ]
            self._kept[key] = merge([Policy((each,)) for each in rules], self._alias)
        return self._kept[key]

    async def _list_layers(self, namespace: str, environment: str | None) -> Sequence[SettingLayer]:
        if environment is None or self._layers is None:
            return ()
        return tuple(await self._layers.list_layers(namespace, environment))


def read_document(document: object, namespace: str, alias: str) -> Rules:
    """A namespace's rules for environments; those for pushes are checked, too. Raises ValueError."""
    if not isinstance(document, dict):
        raise ValueError('a policy is an object such as {"cooldown_days": 7}')  # noqa: TRY004 - a document, no program
    NamespaceRules.of_document(namespace, document)
    own = {name: value for name, value in document.items() if name not in PUSH_RULES}
    return Rules.of_document(own, f"the policy of namespace {namespace}", alias)


def _read(namespace: str, text: str, alias: str) -> Rules:
    try:
        return read_document(orjson.loads(text), namespace, alias)
    except ValueError as error:
        raise PolicyUnavailable(f"the policy of namespace {namespace}", str(error)) from None


def name_layer(layer: SettingLayer) -> str:
    """Where it is set, for people."""
    if not layer.namespace:
        return "the settings of all environments"
    return f"the settings of {layer.namespace}{f'/{layer.environment}' if layer.environment else ''}"


def _write_rule(requirement: str) -> str:
    """A requirement (PEP 508) as rules write packages; extras and markers have no say in it."""
    found = Requirement(requirement)
    versions = str(found.specifier).replace("===", "==")
    return f"{WHEEL_PREFIX}{found.name} {versions}".strip()


def _read_layer(layer: SettingLayer, alias: str) -> Rules:
    try:
        own = {name: value for name, value in layer.document.items() if name in RULES}
        for name, rule in _OF_PYPI.items():
            if requirements := layer.document.get(name):
                own[rule] = [*own.get(rule, ()), *map(_write_rule, requirements)]
        return Rules.of_document(own, name_layer(layer), alias)
    except ValueError as error:
        raise PolicyUnavailable(name_layer(layer), str(error)) from None
