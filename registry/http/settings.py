"""How the server listens, waits and sends. Times in seconds, sizes in bytes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from registry.peers.cors import ORIGIN
from registry.peers.networks import is_loopback, network
from registry.webhooks.webhook import parse_webhooks, rejoined

_OWN_PORTS = {"http": ":80", "https": ":443"}
"""Which browsers leave out."""

_PUBLIC_URL = re.compile(r"https?://[^/@?#\s]+/?")


class HttpSettings(BaseModel):
    """Where the server listens, how long it waits for builds and clients, and what it keeps in memory."""

    model_config = ConfigDict(frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all of the machine's")
    port: int = Field(5000, ge=0, le=65535, description="TCP port to listen on; 0 lets the system choose")
    processes: int = Field(
        1, ge=1, le=256, description="server processes that share the port; each solves and builds on its own"
    )
    answer_within: float = Field(
        20, gt=0, description="seconds a request waits for a build before it is answered with what is known"
    )
    trickle_interval: float = Field(
        1, gt=0, description="seconds between the first bytes of a manifest that is still being built"
    )
    trickle_slowest: float = Field(
        10, gt=0, description="seconds between the last of those bytes, which are spread over a long build"
    )
    trickle_cover: float = Field(900, ge=0, description="seconds of building the slow bytes are to cover")
    stall_seconds: float = Field(
        60, gt=0, description="seconds after which a client that takes or sends no bytes is dropped"
    )
    keep_alive: float = Field(
        75, gt=0, description="seconds an idle connection is kept open, and the head of a request may take to come"
    )
    max_connections: int = Field(
        10_000,
        ge=1,
        description="most open connections of each process; idle ones are closed to make room for new ones",
    )
    max_connections_per_address: int = Field(
        1000, ge=1, description="most open connections of one client address (of an IPv6 /64 network) to each process"
    )
    upload_memory: int = Field(
        512 << 20,
        ge=64 << 20,
        description="most memory of each process for the bodies of pushes, half of it for one client; further pushes "
        "wait for a short time and are then answered 503",
    )
    shutdown_seconds: float = Field(25, gt=0, description="seconds running requests get to end when the server stops")
    drain_seconds: float = Field(
        0, ge=0, description="seconds /readyz fails before the server stops listening, for load balancers to notice"
    )
    manifest_memory: int = Field(64 << 20, ge=0, description="bytes of manifests kept in memory by each process")
    tag_memory_seconds: float = Field(
        60, ge=0, description="longest time a tag is answered from memory without asking the database"
    )
    check_seconds: float = Field(5, gt=0, description="seconds each check of /readyz may take")
    tls_certificate: Path | None = Field(
        None,
        description="PEM file of the server's certificate and those it is signed by; with it only https is spoken. "
        "Read again when it changes",
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's key, without a password")
    public_url: str | None = Field(
        None,
        description="address by which clients reach this server, such as https://registry.example.org, for where it is "
        "told in full; what each request says when unset",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (), description="addresses and networks of the proxies that are believed whom they pass on requests of"
    )
    proxy_headers: Literal["x-forwarded", "forwarded"] = Field(
        "x-forwarded",
        description="what trusted proxies tell it by: X-Forwarded-For, -Proto and -Host, or Forwarded (RFC 7239)",
    )
    cors_origins: tuple[str, ...] = Field(
        (),
        description="origins of web pages that may read the registry from a browser, such as https://ui.example.org",
    )
    webhooks: tuple[str, ...] = Field(
        (),
        description="addresses that events are posted to, each with what it wants after it if that is not all: "
        "https://host/path actions=push,delete repositories=team/*",
    )
    webhook_secret_file: Path | None = Field(
        None, description="file with the secret that what is posted to webhooks is signed with; unsigned when unset"
    )
    webhook_blob_pulls: bool = Field(False, description="tell webhooks of pulled blobs as well as of pulled manifests")
    webhook_seconds: float = Field(10, gt=0, description="seconds a webhook may take to answer")
    webhook_days: float = Field(3, gt=0, description="days after which what a webhook did not take is given up")

    @property
    def is_for_this_machine(self) -> bool:
        """Whether nobody else is meant to reach the server: it listens on loopback, and no proxy passes on to it."""
        return is_loopback(self.host) and not self.trusted_proxies and self.public_url is None

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            network(each)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if not ORIGIN.fullmatch(each) or each.endswith(_OWN_PORTS[each.partition(":")[0]]):
                raise ValueError(f"{each!r} is no origin as browsers send it, such as https://ui.example.org")
        return value

    @field_validator("webhooks")
    @classmethod
    def _are_webhooks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        lines = rejoined(value)
        parse_webhooks(lines)
        return lines

    @field_validator("public_url")
    @classmethod
    def _is_public_url(cls, value: str | None) -> str | None:
        if value is not None and not _PUBLIC_URL.fullmatch(value):
            raise ValueError("must be an address such as https://registry.example.org, without a path")
        return value.rstrip("/") if value is not None else None

    @model_validator(mode="after")
    def _has_both(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together: set both or none")
        return self
