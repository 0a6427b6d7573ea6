"""Wheels by name: pip chooses and downloads them, and a folder keeps them, so that later choices need no network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from builder.errors import SampleChannelFailed
from storage.disk.files import TEMPORARY


class WheelsUnavailable(SampleChannelFailed):
    """Neither the folder nor the package index has what was requested."""


@dataclass(frozen=True)
class WheelCache:
    """A folder of wheels.

    While its wheels satisfy a request, the network is not used: delete the folder to get newer versions.
    """

    directory: Path

    def choose(
        self,
        requirements: Sequence[str],
        *,
        dependencies: bool = True,
        heard: Callable[[str], None] = lambda _name: None,
    ) -> tuple[Path, ...]:
        """Choose wheels for this interpreter that satisfy `requirements` (PEP 508), by default with all dependencies.

        `heard` is called with the file name of each wheel that pip collects. Raises WheelsUnavailable with pip's own
        reason.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        arguments = [*([] if dependencies else ["--no-deps"]), *requirements]
        chosen = self._choose(arguments)
        if isinstance(chosen, str):
            self._download(arguments, heard)
            chosen = self._choose(arguments)
        if isinstance(chosen, str):
            raise WheelsUnavailable(f"no wheels for {', '.join(requirements)}: {chosen}")
        return chosen

    def _choose(self, arguments: Sequence[str]) -> tuple[Path, ...] | str:
        """Return the wheels in this folder that pip would install, or why it cannot."""
        # `--ignore-installed` because nothing in this interpreter's own environment counts; a clean environment because
        # pip's settings may name other places with wheels
        command = [*PIP, "install", "--isolated", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
        command += ["--only-binary", ":all:", "--no-index", "--find-links", str(self.directory), *arguments]
        variables = {"PATH": os.defpath, "PIP_CONFIG_FILE": os.devnull, "PYTHONUTF8": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
        if done.returncode:
            return _describe(done.stderr)
        report = json.loads(done.stdout)
        names = (unquote(urlsplit(item["download_info"]["url"]).path).rpartition("/")[2] for item in report["install"])
        return tuple(self.directory / name for name in sorted(names))

    def _download(self, arguments: Sequence[str], heard: Callable[[str], None]) -> None:
        """Fill the folder with what pip chooses. pip's settings say from where."""
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=self.directory) as incomplete:
            command = [*PIP, "download", "--only-binary", ":all:", "--progress-bar", "off", "--dest", incomplete]
            command += ["--find-links", str(self.directory), *arguments]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
                assert process.stdout is not None
                lines = []
                for line in process.stdout:
                    lines.append(line)
                    if found := _WHEEL.search(line):
                        heard(found[1])
            if process.returncode:
                raise WheelsUnavailable(f"the wheels cannot be downloaded: {_describe(''.join(lines))}")
            for wheel in Path(incomplete).iterdir():
                wheel.replace(self.directory / wheel.name)


# -P: modules of the current directory are not pip
PIP = (sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--no-input", "--no-color")
_WHEEL = re.compile(r"(?:Downloading|Using cached|Processing) (?:\S*/)?(\S+\.whl)(?!\S)")


def _describe(output: str) -> str:
    """Return pip's errors, or else its last line."""
    lines = output.strip().splitlines()
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    return "; ".join(errors) or (lines[-1] if lines else "pip printed nothing")
