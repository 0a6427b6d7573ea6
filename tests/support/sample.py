"""The test suite's sample channel: the default one, made once per interpreter and state of the code."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
import time
from pathlib import Path

import pytest

from builder.sample_channel import DEFAULT, WheelsUnavailable, make_channel

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache"


def wheel_cache(cache: Path = CACHE) -> Path:
    """Where the tests keep PyPI's wheels."""
    return cache / "sample-wheels"


def sample_channel(cache: Path = CACHE) -> Path:
    """The channel's directory, below `cache`; raises WheelsUnavailable."""
    channels = cache / "sample-channels"
    directory = channels / _key()
    channels.mkdir(parents=True, exist_ok=True)
    with (channels / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            unfinished = directory.with_suffix(".unfinished")
            make_channel(unfinished, DEFAULT, cache=wheel_cache(cache))
            # A younger one may be in use by a run with an earlier state of the code.
            for old in channels.iterdir():
                if old.is_dir() and time.time() - old.stat().st_mtime > 24 * 3600:
                    shutil.rmtree(old)
            unfinished.rename(directory)
    return directory


def sample_channel_directory() -> Path:
    """The channel's directory; skips the test if the wheels are not available."""
    try:
        return sample_channel()
    except WheelsUnavailable as error:
        pytest.skip(f"the sample channel cannot be made: {error}")


def _key() -> str:
    digest = hashlib.sha256(f"{sys.version} {sys.base_prefix}".encode())
    for path in sorted((ROOT / "builder/sample_channel").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
