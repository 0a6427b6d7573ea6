"""What is logged, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from storage.section import Section


class LogSettings(Section):
    """What is logged, and how."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Level of the least severe lines that are logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto",
        description="Format of log lines: json (one object a line) or console (text for people); auto is console on "
        "a terminal and json otherwise.",
    )
