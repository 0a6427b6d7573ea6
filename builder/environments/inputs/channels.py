"""Channels as files name them: names, URLs, and names that conda gives a meaning of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from builder.channels.channel import check_form, strip_credentials
from builder.environments.inputs.comments import LEFT_OUT
from builder.environments.inputs.fields import need_list, need_text
from builder.environments.inputs.input import InputSettings
from builder.errors import InputInvalid
from storage.errors import quote
from storage.text import redact

NO_DEFAULTS = "nodefaults"
MOST = 100


def read_channels(value: Any, path: str, settings: InputSettings) -> tuple[str, ...]:
    """Read a list of channels and append the default ones, as conda does, unless it has `nodefaults` (CEP 24)."""
    entries = need_list(value, path, MOST)
    named = {
        index: need_text(entry, f"{path}[{index}]").strip()
        for index, entry in enumerate(entries)
        if entry is not LEFT_OUT
    }
    found = [
        each
        for index, name in named.items()
        if name != NO_DEFAULTS
        for each in resolve_channel(name, f"{path}[{index}]", settings)
    ]
    defaults = () if NO_DEFAULTS in named.values() else settings.channels
    if not found and not defaults:
        raise InputInvalid(path, f"it names no channel but {NO_DEFAULTS}, so there is nothing to take packages from")
    return merge(found, defaults)


def resolve_channel(name: str, path: str, settings: InputSettings) -> tuple[str, ...]:
    """The channels that `name` stands for: itself, in the form that policies know, or several for `defaults`."""
    if drop_login(name, path) != name:
        raise InputInvalid(
            path,
            f"{redact(name)} has credentials, which would be stored with the environment; leave them out, and store "
            "them for the namespace: condery credential set",
        )
    if stands_for := dict(settings.named_channels).get(name):
        return stands_for
    alias = settings.channel_alias.rstrip("/") + "/"
    if name.startswith(alias) and (rest := name.removeprefix(alias).strip("/")):
        name = rest
    try:
        return (check_form(name.rstrip("/") if "://" in name else name),)
    except ValueError as error:
        raise InputInvalid(path, str(error)) from None


def drop_login(url: str, path: str) -> str:
    """The channel without the login in its address. Raises InputInvalid for what is no address."""
    try:
        return strip_credentials(url)
    except ValueError:
        raise InputInvalid(path, f"{quote(redact(url))} is neither a channel's name nor its address") from None


def merge(*groups: Sequence[str] | Iterable[str]) -> tuple[str, ...]:
    """Each channel once, in order."""
    return tuple(dict.fromkeys(channel for group in groups for channel in group))
