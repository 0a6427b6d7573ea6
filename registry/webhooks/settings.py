"""Which webhooks get events, and how delivery works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from registry.webhooks.webhook import hide_path, parse_webhooks, rejoin
from storage.section import Secret, Section


class WebhookSettings(Section):
    """The addresses that events are posted to, and how long each delivery is tried."""

    webhooks: Annotated[tuple[str, ...], Secret(hide_path)] = Field(
        (),
        description="Addresses that events are posted to. A filter may follow an address, which otherwise gets all "
        "events: https://host/path actions=push,delete repositories=team/*",
    )
    webhook_secret_file: Path | None = Field(
        None, description="File with the secret that signs posts to webhooks; when unset, posts are not signed."
    )
    webhook_blob_pulls: bool = Field(
        False, description="Whether webhooks are told of pulled blobs too; pulled manifests are always told."
    )
    webhook_seconds: float = Field(10, gt=0, description="Seconds that a webhook may take to answer.")
    webhook_days: float = Field(
        3, gt=0, description="Days after which an event that a webhook did not accept is dropped."
    )

    @field_validator("webhooks")
    @classmethod
    def _are_webhooks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        lines = rejoin(value)
        parse_webhooks(lines)
        return lines
