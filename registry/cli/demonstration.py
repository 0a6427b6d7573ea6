"""The demonstration: pulls an image from a running server, runs its python, and checks what that computes.

If there is a docker daemon, docker does it. Otherwise the layers are fetched over HTTP, verified, unpacked into a
directory and run with `chroot`, so that the image really runs on any Linux machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiohttp

from registry.settings.loading import LoadedSettings, variables_of
from registry.settings.model import Settings
from storage.errors import ConderyError
from storage.oci import OCI_INDEX, OCI_MANIFEST
from storage.settings import StorageSettings

REPOSITORY_ITEMS = "python/numpy/scipy.gt.1.0"
PACKAGES = ("numpy", "scipy")
"""The packages that the sample channel has for the demonstration, besides python."""

ACCEPT = f"{OCI_INDEX}, {OCI_MANIFEST}"
CHUNK = 1 << 20

MATRIX = ((2, -1, 0, 3), (1, 4, -2, 0), (0, 5, 1, -1), (3, 0, 2, 7))
PROGRAM = f"""
import json, numpy, scipy.integrate
matrix = numpy.array({[list(row) for row in MATRIX]}, dtype=float)
area, _ = scipy.integrate.quad(lambda x: numpy.exp(-x * x), -numpy.inf, numpy.inf)
print(json.dumps({{
    "numpy": numpy.__version__, "scipy": scipy.__version__,
    "determinant": float(numpy.linalg.det(matrix)), "area": float(area),
}}))
"""

Say = Callable[[str], None]


class DemoFailed(ConderyError):
    """The image could not be pulled or run, or it computed something wrong."""


@dataclass(frozen=True)
class PulledImage:
    """The parts of an image that are needed to run it."""

    layers: tuple[tuple[str, int], ...]
    """Digest and size in bytes of each compressed layer, lowest first."""
    entrypoint: tuple[str, ...]
    variables: tuple[str, ...]


def demo_settings(loaded: LoadedSettings, directory: Path, *, once: bool) -> Settings:
    """Settings for images from the sample channel in `directory`, with all data there; other settings stay."""
    settings = loaded.settings
    channel = (directory / "channel").resolve().as_uri()
    changes: dict[str, Any] = {"builder": settings.builder.model_copy(update={"channels": (channel,)})}
    if "data_directory" not in loaded.origins:
        changes["storage"] = StorageSettings(data_directory=(directory / "data").resolve())
    if once and "port" not in loaded.origins:
        changes["http"] = settings.http.model_copy(update={"port": 0})
    if once:
        changes["log"] = loaded.command_log
    return settings.model_copy(update=changes)


async def try_once(settings: Settings, say: Say, *, with_docker: bool | None = None) -> None:
    """Start a server with `settings`, pull and run one of its images, and stop the server; raises DemoFailed."""
    async with _server(settings) as address:
        await pull_and_run(
            address, f"{settings.builder.root}/{REPOSITORY_ITEMS}", "latest", say, with_docker=with_docker
        )


# -P: modules of the current directory are not ours
SERVE = (sys.executable, "-P", "-m", "registry.cli", "serve")


@contextlib.asynccontextmanager
async def _server(settings: Settings) -> AsyncIterator[str]:
    """Run a `condery serve` of its own, as a user would start it; yields 127.0.0.1:port."""
    variables = variables_of(settings)
    process = await asyncio.create_subprocess_exec(*SERVE, env=variables, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        found = re.search(r"http://[^ ]+:(\d+)", line)
        if found is None:
            raise DemoFailed("the server did not start")
        yield f"127.0.0.1:{found[1]}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def pull_and_run(address: str, repository: str, tag: str, say: Say, *, with_docker: bool | None = None) -> None:
    """Pull `repository:tag` from `address` (host:port), run PROGRAM with its python, and check the result.

    Uses docker if there is a daemon, or as `with_docker` says. Raises DemoFailed.
    """
    if with_docker is None:
        with_docker = await asyncio.to_thread(has_docker)
    if with_docker:
        output = await asyncio.to_thread(_run_with_docker, f"{address}/{repository}:{tag}", say)
    else:
        with tempfile.TemporaryDirectory(prefix="condery-demo-") as directory:
            root = Path(directory) / "root"
            image = await _unpack(address, repository, tag, Path(directory), root, say)
            output = await asyncio.to_thread(_run_in, root, image, say)
    say(check(output))


def has_docker() -> bool:
    """Whether a docker client reaches its daemon."""
    return shutil.which("docker") is not None and _succeeds(["docker", "version"])


def check(output: str) -> str:
    """Turn what the image's python printed into a sentence; raises DemoFailed if the result is wrong."""
    try:
        answer = json.loads(output)
        determinant, area = float(answer["determinant"]), float(answer["area"])
        versions = f"numpy {answer['numpy']} and scipy {answer['scipy']}"
    except (ValueError, KeyError, TypeError) as error:
        raise DemoFailed(f"the image's python printed {output!r} instead of an answer") from error
    expected = float(_determinant([[Fraction(cell) for cell in row] for row in MATRIX]))
    if not math.isclose(determinant, expected, rel_tol=1e-9):
        raise DemoFailed(f"numpy's determinant is {determinant}, not {expected}")
    if not math.isclose(area, math.sqrt(math.pi), rel_tol=1e-7):
        raise DemoFailed(f"scipy's integral is {area}, not {math.sqrt(math.pi)}")
    return f"{versions} in the image computed {determinant:.6g} and {area:.6g}: right"


def _determinant(matrix: list[list[Fraction]]) -> Fraction:
    """The determinant by Laplace expansion along the first row."""
    if not matrix:
        return Fraction(1)
    return sum(
        (
            (-1) ** column * cell * _determinant([row[:column] + row[column + 1 :] for row in matrix[1:]])
            for column, cell in enumerate(matrix[0])
        ),
        Fraction(0),
    )


def _run_with_docker(reference: str, say: Say) -> str:
    say(f"docker pull {reference}")
    _output(["docker", "pull", "--quiet", reference])
    say(f"docker run --rm --network none {reference} python -c ...")
    return _output(["docker", "run", "--rm", "--network", "none", reference, "python", "-c", PROGRAM])


async def _unpack(address: str, repository: str, tag: str, directory: Path, root: Path, say: Say) -> PulledImage:
    base = f"http://{address}/v2/{repository}"
    # A build may take long, but the connection is never silent for long.
    timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            say(f"GET {base}/manifests/{tag}")
            image = await _image(session, base, tag)
            for number, (digest, size) in enumerate(image.layers, start=1):
                say(f"layer {number} of {len(image.layers)}, {size / 1e6:.1f} MB")
                await _fetch(session, f"{base}/blobs/{digest}", digest, directory / "layer")
                await asyncio.to_thread(extract, directory / "layer", root)
    except aiohttp.ClientError as error:
        raise DemoFailed(f"{base}: {error}") from error
    return image


async def _image(session: aiohttp.ClientSession, base: str, tag: str) -> PulledImage:
    document = await _json(session, f"{base}/manifests/{tag}", {"Accept": ACCEPT})
    if document.get("mediaType") == OCI_INDEX:
        document = await _json(session, f"{base}/manifests/{document['manifests'][0]['digest']}", {"Accept": ACCEPT})
    config = (await _json(session, f"{base}/blobs/{document['config']['digest']}"))["config"]
    return PulledImage(
        layers=tuple((layer["digest"], layer["size"]) for layer in document["layers"]),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        variables=tuple(config.get("Env") or ()),
    )


async def _json(session: aiohttp.ClientSession, url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    async with session.get(url, headers=headers) as response:
        body = await response.read()
        if response.status != 200:
            raise DemoFailed(f"{url}: {response.status} {_message(body)}")
    document: dict[str, Any] = json.loads(body)
    return document


def _message(body: bytes) -> str:
    """The messages of the registry's error document (distribution specification, Error Codes)."""
    try:
        return "; ".join(error["message"] for error in json.loads(body)["errors"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")


async def _fetch(session: aiohttp.ClientSession, url: str, digest: str, path: Path) -> None:
    algorithm, _, expected = digest.partition(":")
    found = hashlib.new(algorithm)
    async with session.get(url) as response:
        if response.status != 200:
            raise DemoFailed(f"{url}: {response.status} {_message(await response.read())}")
        with path.open("wb") as file:
            async for chunk in response.content.iter_chunked(CHUNK):
                found.update(chunk)
                file.write(chunk)
    if found.hexdigest() != expected:
        raise DemoFailed(f"{url}: the bytes have digest {algorithm}:{found.hexdigest()}")


def extract(layer: Path, root: Path) -> None:
    """Unpack a gzipped layer over `root`; raises DemoFailed if a member would lie outside it.

    Does not use tarfile's filters, which Debian 12's Python 3.11.2 lacks. Does not apply whiteouts, since the image's
    layers only add files.
    """
    root.mkdir(exist_ok=True)
    inside = root.resolve()
    with tarfile.open(layer, "r:gz") as archive:
        for member in archive:
            target = _target(inside, member.name)
            if member.isdir():
                target.mkdir(exist_ok=True)
                target.chmod(member.mode & 0o777)
                continue
            target.unlink(missing_ok=True)
            if member.issym():
                target.symlink_to(member.linkname)
            elif member.islnk():
                target.hardlink_to(_target(inside, member.linkname))
            elif member.isreg():
                _write(archive, member, target)
            else:
                raise DemoFailed(f"layer member {member.name} is not a file, a directory or a link")


def _target(root: Path, name: str) -> Path:
    """The path of a member; symbolic links in its parent directory are followed as they are by now."""
    path = root / name.lstrip("/")
    parent = path.parent.resolve()
    if ".." in Path(name).parts or not parent.is_relative_to(root):
        raise DemoFailed(f"layer member {name} lies outside the image")
    parent.mkdir(parents=True, exist_ok=True)
    return parent / path.name


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = archive.extractfile(member)
    assert content is not None, "a regular member has content"
    with target.open("wb") as file:
        shutil.copyfileobj(content, file, CHUNK)
    target.chmod(member.mode & 0o777)


def _run_in(root: Path, image: PulledImage, say: Say) -> str:
    for name in ("proc", "dev", "tmp"):
        (root / name).mkdir(exist_ok=True)
    variables = dict(entry.split("=", 1) for entry in image.variables)
    prefix, has_proc = _jail(root)
    if not has_proc:
        # Without /proc the dynamic loader cannot find the program's $ORIGIN; this variable gives it.
        variables["LD_ORIGIN_PATH"] = f"{variables['CONDA_PREFIX']}/bin"
    say(f"{' '.join(prefix)} {' '.join(image.entrypoint)} python -c ...")
    return _output([*prefix, *image.entrypoint, "python", "-c", PROGRAM], variables)


def _jail(root: Path) -> tuple[list[str], bool]:
    """The command that runs another with `root` as its root directory, and whether that gets /proc."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    namespaces = ["unshare", *user, "--mount", "--net", "--pid", "--fork"]
    with contextlib.suppress(FileNotFoundError):
        if _succeeds([*namespaces, "--mount-proc", "true"]):
            return [*namespaces, f"--root={root}", "--mount-proc"], True
        if user and _succeeds(["unshare", *user, "true"]):
            return ["unshare", *user, f"--root={root}"], False
    if os.geteuid() == 0:
        return ["chroot", str(root)], False
    raise DemoFailed(
        "neither docker nor user namespaces are available here, so the image cannot be run; "
        "start a docker daemon, or run `condery demo --once` as root"
    )


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0


def _output(command: Sequence[str], variables: dict[str, str] | None = None) -> str:
    if variables is not None:
        # The first program comes from this machine; the programs that it starts come from the image.
        program = shutil.which(command[0])
        command = [program or command[0], *command[1:]]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=variables)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DemoFailed(f"{' '.join(command[:3])} ... ended with {done.returncode}: {last}")
    return done.stdout
