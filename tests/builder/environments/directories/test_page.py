"""What docs/on-disk.md shows, with a real environment of the sample channel."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import rattler
import rattler.shell

from tests.support.builder.directories import PLATFORM, open_directories
from tests.support.builder.services import open_service, spec_of
from tests.support.rooms import ROOT

PAGE = (ROOT / "docs/on-disk.md").read_text()
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ |```).*\n)*)", re.MULTILINE)


async def test_commands_and_what_they_print(sample_channel: Path, tmp_path: Path) -> None:
    async with open_service(tmp_path / "service", sample_channel.as_uri(), glibc="2.36") as service:
        lock = await service.lock(spec_of(service, "python", "ipykernel"))
    lock = replace(lock, spec=replace(lock.spec, variables=(("TEAMS", "of ours"),)))
    root = tmp_path / "environments"
    async with open_directories(tmp_path, root=root) as directories:
        await directories.make("team", "analysis", "17", lock, PLATFORM)
        link = await directories.publish("team", "analysis", "17")
    assert str(link).replace(str(root), "/srv/environments") in PAGE
    found = COMMAND.findall(PAGE)
    assert len(found) == 3
    for command, printed in found:
        assert await asyncio.to_thread(run, command.replace("/srv/environments", str(root)), tmp_path) == printed
    assert await asyncio.to_thread(activate, link, tmp_path) == f"{link} {link}/bin/python of ours\n"
    kernel = json.loads((tmp_path / ".local/share/jupyter/kernels/analysis/kernel.json").read_bytes())
    assert kernel["argv"][0] == f"{link}/bin/python"


def activate(prefix: Path, home: Path) -> str:
    """Activate as conda, mamba and pixi do, by rattler's shell script, and return what a program sees then."""
    shell = rattler.shell.Shell.bash
    script = rattler.shell.activate(prefix, rattler.shell.ActivationVariables(None, ["/usr/bin", "/bin"]), shell).script
    (home / "activate.sh").write_text(f"{script}\necho $CONDA_PREFIX $(command -v python) $TEAMS\n")
    return run("bash activate.sh", home)


async def test_commands_of_an_environment_run_one_build(sample_channel: Path, tmp_path: Path) -> None:
    async with open_service(tmp_path / "service", sample_channel.as_uri(), glibc="2.36") as service:
        lock = await service.lock(spec_of(service, "python", "numpy", "flask"))
    async with open_directories(tmp_path) as directories:
        prefix = await directories.make("team", "analysis", "1", lock, PLATFORM)
        link = await directories.publish("team", "analysis", "1")
    assert (prefix / "bin/flask").read_text().startswith(f"#!{prefix}/bin/python")
    assert "Flask" in await asyncio.to_thread(run, f"{link}/bin/flask --version", tmp_path)
    code = "import numpy, sys; print(numpy.ones(3).sum(), sys.prefix)"
    assert await asyncio.to_thread(run, f"{link}/bin/python -c '{code}'", tmp_path) == f"3.0 {link}\n"


def run(command: str, home: Path) -> str:
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, cwd=home)
    assert done.returncode == 0, done.stderr
    return done.stdout
