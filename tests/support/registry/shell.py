"""A directory with a settings file, in which commands run in the tests' process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shell:
    directory: Path
    channel: str
    condery: Callable[..., Any]

    def __call__(self, line: str, *, code: int = 0, stdin: str = "") -> Any:
        """The result of a command, no word of which has a space."""
        done = self.condery(*line.split(), stdin=stdin)
        assert done.exit_code == code, (line, done.stdout, done.stderr)
        return done

    def json(self, line: str) -> Any:
        return json.loads(self(f"{line} --json").stdout)

    def write(self, name: str, *dependencies: str, file: str | None = None) -> str:
        """Write an environment file; return its name."""
        path = self.directory / (file or f"{name}.yaml")
        document = {"name": name, "channels": [self.channel], "dependencies": list(dependencies)}
        path.write_text(json.dumps(document))
        return path.name
