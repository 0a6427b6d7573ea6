"""The HTTP server's settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class HttpSettings(BaseModel):
    """Where the server listens."""

    model_config = ConfigDict(frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all of the machine's")
    port: int = Field(5000, ge=0, le=65535, description="TCP port to listen on; 0 lets the system choose")
