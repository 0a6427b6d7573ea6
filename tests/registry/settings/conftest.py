"""No settings but those that a test gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.settings.model import all_settings


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for setting in all_settings():
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.delenv("CONDERY_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
