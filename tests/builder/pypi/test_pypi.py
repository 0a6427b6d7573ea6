"""The same choice as uv's own, of what PyPI serves today."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from builder.channels.index_policy import PYPI, IndexPolicy
from builder.pypi.uv import find_program
from tests.support.pypi.resolving import resolving
from tests.support.wide import WIDE

REQUIREMENTS = ("requests[socks]", "flask>=2,<4", "rich", "pandas", "sqlalchemy", "fastapi", "pytest", "pyyaml")


@pytest.mark.skipif(not WIDE, reason="asks PyPI")
async def test_what_uv_chooses_of_pypi_is_chosen(tmp_path: Path) -> None:
    # its files are at another host, which may be an internal mirror where this runs
    policy = IndexPolicy((PYPI,), ("https://files.pythonhosted.org/",))
    async with resolving(tmp_path, PYPI, policy=policy) as resolver:
        wheels = await resolver.solve(*REQUIREMENTS)
    (tmp_path / "wanted.in").write_text("\n".join(REQUIREMENTS))
    command = [
        find_program(),
        *("pip", "compile", str(tmp_path / "wanted.in"), "--format", "pylock.toml", "-q", "--no-config"),
        *("--only-binary", ":all:", "--python", sys.executable, "--python-version", "3.12.3", "--default-index", PYPI),
        *("--python-platform", "x86_64-manylinux_2_28", "--cache-dir", str(tmp_path / "cache")),
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    packages = tomllib.loads(done.stdout.decode())["packages"]
    assert {each.title: each.version for each in wheels} == {each["name"]: each["version"] for each in packages}
    hashes = {wheel["hashes"]["sha256"] for each in packages for wheel in each["wheels"]}
    assert {each.sha256 for each in wheels} <= hashes
