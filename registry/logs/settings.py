"""What is logged, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LogSettings(BaseModel):
    """What is logged, and how."""

    model_config = ConfigDict(frozen=True)

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe log line written")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="one JSON object a line, or text for people; auto is console on a terminal, else json"
    )
