"""Wheels without content, one for each distribution that conda provides, which uv takes for what is installed.

As a constraint with an address, such a wheel is the only version of its distribution that uv considers, also where the
index has no such version. It says of itself what the real one says of its extras, and nothing of other dependencies,
which are conda's matter.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from builder.canonical import make_key
from builder.pypi.provided import Distribution
from storage.disk.files import atomic_write, mark_used

_WHEEL = "Wheel-Version: 1.0\nGenerator: condery\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_TIME = (2000, 1, 1, 0, 0, 0)


def write_stubs(distributions: Iterable[Distribution], folder: Path) -> list[str]:
    """Write what is not there yet, and return the constraints, one for each distribution."""
    return [_write(each, folder) for each in distributions]


def _write(distribution: Distribution, folder: Path) -> str:
    metadata = _write_metadata(distribution)
    key = make_key("stub", metadata)
    stem = f"{distribution.name.replace('-', '_')}-{distribution.version}"
    path = folder.absolute() / key[:2] / key / f"{stem}-py3-none-any.whl"
    if path.exists():
        mark_used(path)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, durable=False) as file:
            file.write(_zip(stem, metadata))
    return f"{distribution.name} @ file://{quote(str(path))}"


def _write_metadata(distribution: Distribution) -> str:
    return "".join(
        f"{line}\n"
        for line in (
            "Metadata-Version: 2.1",
            f"Name: {distribution.name}",
            f"Version: {distribution.version}",
            *(f"Provides-Extra: {' '.join(each.split())}" for each in distribution.extras),
            # an address would be fetched, or read from this machine, by uv's own rules
            *(f"Requires-Dist: {' '.join(each.split())}" for each in distribution.requires if "@" not in each),
        )
    )


def _zip(stem: str, metadata: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as wheel:
        for name, text in (("METADATA", metadata), ("WHEEL", _WHEEL), ("RECORD", "")):
            wheel.writestr(zipfile.ZipInfo(f"{stem}.dist-info/{name}", _TIME), text)
    return content.getvalue()
