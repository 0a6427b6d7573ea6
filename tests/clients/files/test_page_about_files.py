"""The commands of docs/files.md do what the page says."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.support.programs import OrasCommand, need, run
from tests.support.rooms import ROOT
from tests.support.server import Server

pytestmark = pytest.mark.clients

PAGE = ROOT / "docs/files.md"
NAME = "conda-store-dynamic/tzdata/ca-certificates"


def commands(server: Server) -> list[str]:
    """The page's blocks of commands, for this server and a small image of it; condery has the server's channel."""
    blocks = re.findall(r"(?:^    .*\n)+", PAGE.read_text(), re.MULTILINE)
    return [
        block.replace("localhost:5000", server.address).replace("conda-store-dynamic/python/numpy", NAME)
        for block in blocks
    ]


def test_every_command_of_the_page(
    oras_command: OrasCommand, served: Server, sample_channel: Path, tmp_path: Path
) -> None:
    need("curl")
    # these programs take HTTPS for granted at an address other than localhost
    (tmp_path / "bin").mkdir()
    oras = tmp_path / "bin/oras"
    oras.write_text(f'#!/bin/sh\ncommand=$1; shift; exec {oras_command.program} "$command" --plain-http "$@"\n')
    oras.chmod(0o755)
    condery = tmp_path / "bin/condery"
    condery.write_text(
        f"#!/bin/sh\ncommand=$1; shift\n"
        f'exec {sys.executable} -m registry.cli "$command" --channel {sample_channel.as_uri()} '
        f'--data-dir {tmp_path}/data "$@"\n'
    )
    condery.chmod(0o755)
    done = []
    for block in commands(served):
        path = f"PATH={tmp_path}/bin:{os.environ['PATH']}"
        done.append(run(["env", path, "sh", "-ec", block], directory=tmp_path))
    assert len(done) == 4
    assert "application/vnd.pixi.lock.v1+yaml" in done[2]
    [saved] = tmp_path.glob("*-*.pixi.lock")
    assert saved.read_text().startswith("version: 6\n")
    assert (tmp_path / "pixi.lock").read_text().startswith("version: 6\n")
    assert json.loads((tmp_path / "sbom.spdx.json").read_text())["spdxVersion"] == "SPDX-2.3"
