"""The variables of a spec: in the image, in the activated environment, and in the archive."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

from rattler.shell import ActivationVariables, Shell, activate

from builder.artifacts.artifact import ARCHIVE
from builder.image.finished import FinishedImage
from builder.locks.formats import write_environment_file
from builder.names.spec import EnvironmentSpec
from builder.service import BuilderService
from storage.digest import Digest
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, manifest_of, open_service, spec_of
from tests.support.unpacking import extract_all

ODD = 'it\'s "odd" $HOME `x` \\ end'
VARIABLES = (("GREETING", ODD), ("OMP_NUM_THREADS", "4"))
PACKAGE = Package(
    name="sets",
    files={
        "etc/conda/env_vars.d/sets.json": b'{"OMP_NUM_THREADS": "1", "KEPT": "yes"}',
        "conda-meta/state": b'{"version": 1, "env_vars": {"GREETING": "of the package", "STATE": "kept"}}',
    },
)


async def layer_of(service: BuilderService, image: FinishedImage) -> tuple[dict[str, str], dict[str, bytes]]:
    """The variables of the config, and the files of the last layer."""
    manifest = await manifest_of(service, image)
    blobs = service.builder.blobs
    config = json.loads(await blobs.content(Digest.parse(manifest["config"]["digest"])))["config"]
    content = await blobs.content(Digest.parse(manifest["layers"][-1]["digest"]))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        files = {each.name: tar.extractfile(each).read() for each in tar if each.isfile()}  # type: ignore[union-attr]
    return dict(entry.partition("=")[::2] for entry in config["Env"]), files


async def test_the_image_has_them_over_those_of_packages(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [PACKAGE])
    async with open_service(tmp_path / "data", channel) as service:
        image = await service.build(replace(spec_of(service, "sets"), variables=VARIABLES))
        env, files = await layer_of(service, image)
    assert {name: env[name] for name in ("GREETING", "OMP_NUM_THREADS", "KEPT", "STATE")} == {
        "GREETING": ODD,
        "OMP_NUM_THREADS": "4",
        "KEPT": "yes",
        "STATE": "kept",
    }
    state = files["opt/conda/conda-meta/state"]
    assert json.loads(state)["version"] == 1
    prefix = tmp_path / "prefix"
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "conda-meta/state").write_bytes(state)
    script = activate(prefix, ActivationVariables(None, []), Shell.bash).script
    shown = subprocess.run(
        ["bash", "-c", f'{script}\nprintf "%s|%s|%s" "$OMP_NUM_THREADS" "$STATE" "$GREETING"'],
        capture_output=True,
        text=True,
    ).stdout
    assert shown.startswith("4|kept|it's")


async def test_an_environment_without_variables_has_no_state(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [Package(name="plain")])
    async with open_service(tmp_path / "data", channel) as service:
        _, files = await layer_of(service, await service.build(spec_of(service, "plain")))
    assert "opt/conda/conda-meta/history" in files
    assert "opt/conda/conda-meta/state" not in files


async def test_the_archive_has_them_for_conda_and_for_its_own_activation(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [PACKAGE])
    async with open_service(tmp_path / "data", channel) as service:
        lock = await service.lock(replace(spec_of(service, "sets"), variables=VARIABLES))
        async with service.builder._take_turn_to_pack(lock, ARCHIVE) as pack:
            joined = await pack(lock, "linux-64")
        parts = [service.builder.data.fragment(part.key).read_bytes() for part in joined.parts]  # type: ignore[union-attr]
    place = tmp_path / "some place"
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts)), mode="r:gz") as tar:
        assert len(tar.getnames()) == len(set(tar.getnames()))
        extract_all(tar, place)
    assert json.loads((place / "conda-meta/state").read_bytes())["env_vars"] == dict(VARIABLES)
    shown = subprocess.run(
        [
            *("env", "-i", "PATH=/usr/bin:/bin", "bash", "-c"),
            '. bin/activate; printf "%s|%s\\n" "$OMP_NUM_THREADS" "$GREETING"; . bin/deactivate; echo "<$GREETING>"',
        ],
        cwd=place,
        capture_output=True,
        text=True,
    ).stdout
    assert shown == f"4|{ODD}\n<>\n"


async def test_the_exported_file_has_them(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [PACKAGE])
    async with open_service(tmp_path / "data", channel) as service:
        lock = await service.lock(replace(spec_of(service, "sets"), variables=(("OMP_NUM_THREADS", "4"),)))
    assert b"variables:\n  OMP_NUM_THREADS: '4'\n" in write_environment_file(lock, "linux-64")


def test_specs_without_any_keep_their_keys() -> None:
    spec = EnvironmentSpec((), ("conda-forge",))
    assert "variables" not in spec.to_json()
    some = replace(spec, variables=VARIABLES)
    assert EnvironmentSpec.from_json(some.to_json()) == some
    assert some.key != spec.key
