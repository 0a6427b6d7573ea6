"""How the server listens, waits and sends. Times in seconds, sizes in bytes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


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
    stall_seconds: float = Field(60, gt=0, description="seconds after which a client that takes no bytes is dropped")
    keep_alive: float = Field(75, gt=0, description="seconds an idle connection is kept open")
    shutdown_seconds: float = Field(25, gt=0, description="seconds running requests get to end when the server stops")
    drain_seconds: float = Field(
        0, ge=0, description="seconds /readyz fails before the server stops listening, for load balancers to notice"
    )
    manifest_memory: int = Field(64 << 20, ge=0, description="bytes of manifests kept in memory by each process")
    tag_memory_seconds: float = Field(
        60, ge=0, description="longest time a tag is answered from memory without asking the database"
    )
    check_seconds: float = Field(5, gt=0, description="seconds each check of /readyz may take")
