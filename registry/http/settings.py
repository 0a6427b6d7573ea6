"""How the server listens, waits and sends. Times are in seconds, sizes in bytes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from registry.peers.networks import is_loopback, network
from storage.section import Section, Size

ORIGIN = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
"""As browsers send it: scheme, host and any non-default port, in lower case, without a path."""

_OWN_PORTS = {"http": ":80", "https": ":443"}
"""Browsers leave these out."""

_PREFIX = re.compile(r"(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,62}){1,8}")
_OWN_PATHS = ("api", "device", "files", "healthz", "login", "logout", "readyz", "token", "ui", "v2")

_PUBLIC_URL = re.compile(r"https?://[^/@?#\s]+/?")


class HttpSettings(Section):
    """The addresses that the server listens on, its time limits for builds and clients, and its memory."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 is every address of the machine.")
    port: int = Field(5000, ge=0, le=65535, description="TCP port to listen on; 0 lets the system choose one.")
    processes: int = Field(
        1,
        ge=1,
        le=256,
        description="Number of server processes that share the port; each has its own solver and its own workers.",
    )
    answer_within: float = Field(
        20, gt=0, description="Seconds that a request waits for a build before the answer begins without its result."
    )
    trickle_interval: float = Field(
        1,
        gt=0,
        description="Seconds between the first bytes of a manifest that is sent byte by byte while its image is built.",
    )
    trickle_slowest: float = Field(
        10,
        gt=0,
        description="Seconds between the last of those bytes, which are sent more slowly so that they last for a "
        "long build.",
    )
    trickle_cover: float = Field(900, ge=0, description="Seconds of building that the slow bytes last for.")
    stall_seconds: float = Field(
        60,
        gt=0,
        description="Seconds without a byte after which the connection of a client that sends or receives a body is "
        "closed.",
    )
    keep_alive: float = Field(
        75,
        gt=0,
        description="Seconds that an idle connection stays open, and that a client may take to send the head of a "
        "request.",
    )
    max_connections: int = Field(
        10_000,
        ge=1,
        description="Maximum number of open connections of each process; idle ones are closed to make room for new "
        "ones.",
    )
    max_connections_per_address: int = Field(
        1000,
        ge=1,
        description="Maximum number of open connections of one client address to each process; an IPv6 /64 network "
        "counts as one address.",
    )
    requests_per_second: float = Field(
        0,
        ge=0,
        description="Requests a second that each process answers somebody who is signed in; ten times as many may come "
        "at once. More are answered 429. 0 is no limit.",
    )
    anonymous_requests_per_second: float = Field(
        0,
        ge=0,
        description="The same for one client address that is not signed in; an IPv6 /64 network counts as one address.",
    )
    upload_memory: Size = Field(
        512 << 20,
        ge=64 << 20,
        description="Maximum memory of each process for the bodies of pushes; one client gets at most half of it. "
        "Further pushes wait for a short time and are then answered 503.",
    )
    streams_per_sender: int = Field(
        100,
        ge=1,
        description="Maximum number of logs that one sender follows at a time at each process: somebody who is signed "
        "in, or a client address. More are answered 429.",
    )
    shutdown_seconds: float = Field(
        25, gt=0, description="Seconds that running requests have to finish when the server stops."
    )
    drain_seconds: float = Field(
        0,
        ge=0,
        description="Seconds for which /readyz fails before the server stops listening, so that load balancers notice.",
    )
    manifest_memory: Size = Field(64 << 20, ge=0, description="Bytes of manifests that each process keeps in memory.")
    tag_memory_seconds: float = Field(
        60, ge=0, description="Maximum time for which a tag is answered from memory without asking the database."
    )
    check_seconds: float = Field(5, gt=0, description="Seconds that each check of /readyz may take.")
    tls_certificate: Path | None = Field(
        None,
        description="PEM file with the server's certificate and its intermediate certificates. When it is set, the "
        "server speaks only https. The file is read again when it changes.",
    )
    tls_key: Path | None = Field(None, description="PEM file with the certificate's private key, without a password.")
    public_url: str | None = Field(
        None,
        description="Address at which clients reach this server, such as https://registry.example.org, for answers "
        "that give a full address; when unset, the address that the request names is used.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Addresses or networks of trusted proxies: their X-Forwarded-* headers are used, others' are "
        "ignored.",
    )
    proxy_headers: Literal["x-forwarded", "forwarded"] = Field(
        "x-forwarded",
        description="Headers that trusted proxies set: x-forwarded (X-Forwarded-For, -Proto and -Host) or forwarded "
        "(RFC 7239).",
    )
    cors_origins: tuple[str, ...] = Field(
        (),
        description="Origins of web pages that may read the registry from a browser, such as https://ui.example.org.",
    )

    api_origins: tuple[str, ...] = Field(
        (),
        description="Origins of web pages that may use the REST API in the name of who is signed in, such as a "
        "JupyterLab with conda-store's extension; name only what is trusted as much as this server.",
    )
    ui_directory: Path | None = Field(
        None,
        description="Folder dist of the npm package @conda-store/conda-store-ui; when it is set, that web interface is "
        "at /ui/.",
    )
    api_prefix: str | None = Field(
        None,
        description="Path below which the REST API, the sign-in and the web interface are as well, such as "
        "/conda-store, where clients of conda-store look for them.",
    )

    @property
    def is_for_this_machine(self) -> bool:
        """Whether only this machine should reach the server: it listens on loopback, and no proxy forwards to it."""
        return is_loopback(self.host) and not self.trusted_proxies and self.public_url is None

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            network(each)
        return value

    @field_validator("cors_origins", "api_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if not ORIGIN.fullmatch(each) or each.endswith(_OWN_PORTS[each.partition(":")[0]]):
                raise ValueError(f"{each!r} is not an origin as browsers send it, such as https://ui.example.org")
        return value

    @field_validator("api_prefix")
    @classmethod
    def _is_prefix(cls, value: str | None) -> str | None:
        if value is not None and (not _PREFIX.fullmatch(value) or value.split("/")[1] in _OWN_PATHS):
            raise ValueError(f"must be a path such as /conda-store that begins with none of {', '.join(_OWN_PATHS)}")
        return value

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
