"""A real OpenID Connect provider: npm's oidc-provider, installed once and kept."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.npm_packages import npm_package
from tests.support.servers.providers.child import Child

PACKAGE = "oidc-provider@9.13.3"
PROGRAM = Path(__file__).with_suffix(".mjs")


def install_provider() -> Path:
    """The folder with the package. Raises NpmPackageUnavailable."""
    return npm_package(PACKAGE)


@dataclass
class OidcProvider(Child):
    """One that sends people back to `redirect`."""

    redirect: str
    directory: Path
    _groups: dict[str, list[str] | None] = field(init=False, default_factory=dict)

    def start(self) -> None:
        modules = install_provider()
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
