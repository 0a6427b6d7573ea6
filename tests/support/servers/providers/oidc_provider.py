"""A real OpenID Connect provider: npm's oidc-provider, installed once and kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.sample import CACHE
from tests.support.servers.providers.child import Child

PACKAGE = "oidc-provider@9.13.3"
PROGRAM = Path(__file__).with_suffix(".mjs")
INSTALL_SECONDS = 300


class ProviderUnavailable(Exception):
    """Why it is not available here."""


def install_provider(cache: Path = CACHE / "npm") -> Path:
    """The folder with the package. Raises ProviderUnavailable."""
    place = cache / PACKAGE
    if place.exists():
        return place
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise ProviderUnavailable("node and npm are not installed")
    cache.mkdir(parents=True, exist_ok=True)
    # others may install it at the same time, so it appears whole
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        command = ["npm", "install", "--prefix", directory, "--prefer-offline", "--no-audit", "--no-fund"]
        command += ["--ignore-scripts", PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        if done.returncode:
            raise ProviderUnavailable(f"{' '.join(command)}: {done.stderr.strip()[:500]}")
        try:
            shutil.move(directory, place)
        except OSError:
            assert place.exists(), "somebody else has installed it"
        else:
            Path(directory).mkdir()
    return place


@dataclass
class OidcProvider(Child):
    """One that sends people back to `redirect`."""

    redirect: str
    directory: Path
    _groups: dict[str, list[str] | None] = field(init=False, default_factory=dict)

    def start(self) -> None:
        modules = install_provider() / "node_modules"
        # node looks for packages beside the program
        program = self.directory / PROGRAM.name
        shutil.copy(PROGRAM, program)
        (self.directory / "node_modules").symlink_to(modules)
        self._write_people()
        self.choose_url()
        self.run(["node", program, self.url, self.redirect, self._people])

    def put(self, subject: str, *groups: str) -> None:
        """Somebody is in these groups from now on."""
        self._groups[subject] = list(groups)
        self._write_people()

    def disable(self, subject: str) -> None:
        self._groups[subject] = None
        self._write_people()

    @property
    def _people(self) -> Path:
        return self.directory / "people.json"

    def _write_people(self) -> None:
        # the provider may read it just now
        new = self._people.with_suffix(".new")
        new.write_text(json.dumps(self._groups))
        new.replace(self._people)
