"""Webhooks, written as lines of text: an address, and a filter for its events.

    https://ci.example.org/hooks/condery
    https://audit.example.org/events actions=push,delete repositories=team/*,prod/*

A `*` matches any number of any characters. Lines with the same address are one webhook, which gets every event that any
of them matches. An address may have a secret in its path, so only the part up to its host is ever shown.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self, get_args
from urllib.parse import urlsplit

from storage.glob import glob

Action = Literal["push", "mount", "pull", "delete", "build", "alarm"]
ACTIONS: tuple[Action, ...] = get_args(Action)

_ADDRESS = re.compile(r"https?://[^/@?#\s]+(?:[/?][^#\s]*)?")
_PATTERN = re.compile(r"[a-z0-9._/*-]+")
_WORDS = ("actions", "repositories")


@dataclass(frozen=True)
class Rule:
    """A filter for events: these actions, in repositories that match one of the patterns."""

    actions: frozenset[Action] = frozenset(ACTIONS)
    repositories: tuple[str, ...] = ("*",)

    def wants(self, action: Action, repository: str) -> bool:
        return action in self.actions and any(glob(pattern, repository) for pattern in self.repositories)


@dataclass(frozen=True)
class Webhook:
    """An address that events are posted to."""

    url: str
    rules: tuple[Rule, ...]

    @cached_property
    def key(self) -> str:
        """The key under which its waiting events are stored."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:32]

    @cached_property
    def address(self) -> str:
        """The address without its path, which may be secret."""
        return hide_path(self.url)

    def wants(self, action: Action, repository: str) -> bool:
        return any(rule.wants(action, repository) for rule in self.rules)

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read a line; raises ValueError with a text that does not repeat the address."""
        url, *words = line.split()
        if not _ADDRESS.fullmatch(url) or not _has_port(url):
            raise ValueError("must begin with an address such as https://host/path, without a user or a fragment")
        values = {name: value for name, _, value in (word.partition("=") for word in words)}
        for word in words:
            if word.partition("=")[0] not in _WORDS or not values[word.partition("=")[0]]:
                raise ValueError(f"{word!r} is neither actions=... nor repositories=...")
        if len(values) < len(words):
            raise ValueError("actions= and repositories= may each be given once")
        return cls(url, (_rule(values.get("actions"), values.get("repositories")),))


def parse_webhooks(lines: Iterable[str]) -> tuple[Webhook, ...]:
    """One webhook per address; raises ValueError."""
    by_url: dict[str, Webhook] = {}
    for number, line in enumerate(lines, 1):
        try:
            found = Webhook.parse(line)
        except ValueError as error:
            raise ValueError(f"webhook {number}: {error}") from None
        known = by_url.get(found.url)
        by_url[found.url] = Webhook(found.url, (*known.rules, *found.rules)) if known else found
    return tuple(by_url.values())


def rejoin(parts: Sequence[str]) -> tuple[str, ...]:
    """Put together the lines of a list that was split at all its commas, including those within a line."""
    lines: list[str] = []
    for part in parts:
        if lines and not re.match(r"[a-z]+://", part):
            lines[-1] += "," + part
        else:
            lines.append(part)
    return tuple(lines)


def hide_path(line: str) -> str:
    """A line, or just an address, as it may be printed: the address ends after its host."""
    return re.sub(r"(://)(?:[^/\s]*@)?([^/?#\s]+)[/?#]\S+", r"\1\2/***", line)


def _rule(actions: str | None, repositories: str | None) -> Rule:
    return Rule(
        frozenset(map(_action, actions.split(","))) if actions else frozenset(ACTIONS),
        tuple(map(_pattern, repositories.split(","))) if repositories else ("*",),
    )


def _action(text: str) -> Action:
    for action in ACTIONS:
        if text == action:
            return action
    raise ValueError(f"{text!r} is not one of the actions {', '.join(ACTIONS)}")


def _pattern(text: str) -> str:
    if not _PATTERN.fullmatch(text):
        raise ValueError(f"{text!r} is not the name of a repository, in which * matches anything")
    return text


def _has_port(url: str) -> bool:
    """Whether the port, if there is one, is a valid number."""
    try:
        return urlsplit(url).port != 0 and bool(urlsplit(url).hostname)
    except ValueError:
        return False
