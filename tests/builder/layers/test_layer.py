"""Joins of fragments: what is in them, that they are made once, and the same every time."""

import gzip
import io
import multiprocessing
import os
import pickle
import subprocess
import tarfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from builder.errors import InvalidImageName, PackageRefused, PathConflict, UnknownPackage
from builder.layers.layer import AssembledLayer, LayerTask, assemble, find_fragments
from storage.clock import USE_SECONDS
from storage.digest import Digest
from storage.errors import ConderyError, FragmentsGone, StorageFull
from storage.layout import DataDirectory
from tests.support.builder.layers import layer_task
from tests.support.builder.packages import PLACEHOLDER, Directory, File, Link, Package

PACKAGES = (
    Package(
        "alpha",
        files={
            "bin/a": File(b"#!" + PLACEHOLDER.encode() + b"/bin/sh\n", 0o755, "text"),
            "lib/x/data": os.urandom(700_000),
            "share/empty": Directory(),
        },
    ),
    Package(
        "beta", files={"lib/x/other": b"beta" * 99, "lib/x/link": Link("other"), "n" * 70 + "/" + "m" * 70: b"long"}
    ),
    Package("gamma"),
)


def blob(root: Path, layer: AssembledLayer) -> bytes:
    """What the layer is the join of."""
    return b"".join(
        part if isinstance(part, bytes) else DataDirectory(root).fragment(part.key).read_bytes() for part in layer.parts
    )


def members(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        return archive.getmembers()


def test_a_layer_is_directories_then_fragments_and_no_path_twice(tmp_path: Path) -> None:
    layer = assemble(layer_task(tmp_path / "data", *PACKAGES))
    data = blob(tmp_path / "data", layer)
    plain = gzip.decompress(data)
    assert layer.digest == Digest.of(data)
    assert layer.diff_id == Digest.of(plain)
    assert (layer.size, layer.uncompressed_size) == (len(data), len(plain))
    found = members(data)
    names = [member.name for member in found]
    assert len(set(names)) == len(names)
    assert names[:8] == [
        "opt",
        "opt/conda",
        "opt/conda/bin",
        "opt/conda/lib",
        "opt/conda/lib/x",
        "opt/conda/" + "n" * 70,
        "opt/conda/share",
        "opt/conda/share/empty",
    ]
    assert {(member.mode, member.mtime, member.uid) for member in found[:8]} == {(0o755, 315532800, 0)}
    assert sum(member.isdir() for member in found) == 8


def test_gnu_tar_unpacks_it(tmp_path: Path) -> None:
    (tmp_path / "l.tar.gz").write_bytes(blob(tmp_path / "data", assemble(layer_task(tmp_path / "data", *PACKAGES))))
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        ["tar", "--no-same-owner", "-xzf", tmp_path / "l.tar.gz", "-C", tmp_path / "out"],
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    prefix = tmp_path / "out/opt/conda"
    assert (prefix / "bin/a").read_bytes() == b"#!/opt/conda/bin/sh\n"
    assert (prefix / "lib/x/link").read_bytes() == b"beta" * 99
    assert (prefix / "share/empty").is_dir()


def test_the_same_task_gives_the_same_layer_from_archives_or_fragments(tmp_path: Path) -> None:
    task = layer_task(tmp_path / "one", *PACKAGES)
    cold = assemble(task)
    for fragment in task.fragments:
        fragment.archive.unlink()
    joined = assemble(task)
    other = assemble(layer_task(tmp_path / "two", *PACKAGES))
    assert cold == joined == other
    assert blob(tmp_path / "one", cold) == blob(tmp_path / "two", cold)
    assert cold.to_store.join.size == cold.size


def test_the_use_of_fragments_is_noted_now_and_then(tmp_path: Path) -> None:
    task = layer_task(tmp_path / "data", *PACKAGES)
    assemble(task)
    sidecars = [Path(f"{task.path(fragment)}.json") for fragment in task.fragments]
    for use in (lambda: assemble(task), lambda: find_fragments(task)):
        for ago in (2 * USE_SECONDS, USE_SECONDS / 2):
            before = time.time() - ago
            for path in sidecars:
                os.utime(path, (before, before))
            use()
            noted = ago > USE_SECONDS
            assert [path.stat().st_mtime > time.time() - 60 for path in sidecars] == [noted] * len(sidecars)


def test_stored_fragments_are_all_or_none(tmp_path: Path) -> None:
    task = layer_task(tmp_path / "data", *PACKAGES)
    assert find_fragments(task) is None
    layer = assemble(task)
    assert find_fragments(task) == layer.fragments
    task.path(task.fragments[1]).write_bytes(b"cut")
    assert find_fragments(task) is None


def test_fragments_are_shared_between_layers(tmp_path: Path) -> None:
    root = tmp_path / "data"
    assemble(layer_task(root, *PACKAGES))
    before = {path: path.stat().st_mtime_ns for path in (root / "fragments").rglob("*") if path.is_file()}
    assemble(layer_task(root, PACKAGES[1], PACKAGES[0]))
    assert before == {path: path.stat().st_mtime_ns for path in (root / "fragments").rglob("*") if path.is_file()}


@pytest.mark.parametrize("damage", ["cut", "cut unnoticed", "flip", "appended", "gone", "sidecar"])
def test_a_damaged_fragment_is_made_anew(tmp_path: Path, damage: str) -> None:
    root = tmp_path / "data"
    task = layer_task(root, *PACKAGES)
    layer = assemble(task)
    path = task.path(task.fragments[0])
    sidecar = path.with_name(path.name + ".json")
    whole, said = path.read_bytes(), sidecar.read_bytes()
    if damage.startswith("cut"):
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flip":
        path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    elif damage == "appended":
        path.write_bytes(whole + gzip.compress(b"more", mtime=0))
    elif damage == "gone":
        path.unlink()
    if damage in ("cut unnoticed", "appended"):
        size = f'"size":{path.stat().st_size}'.encode()
        sidecar.write_bytes(said.replace(f'"size":{len(whole)}'.encode(), size, 1))
    elif damage == "sidecar":
        sidecar.write_bytes(said[:-5])
    assert assemble(task) == layer
    assert path.read_bytes() == whole
    assert Digest.of(blob(root, layer)) == layer.digest


def test_order_and_content_are_in_the_key(tmp_path: Path) -> None:
    root = tmp_path / "data"
    keys = {
        layer_task(root, *PACKAGES).key,
        layer_task(root, *PACKAGES[::-1]).key,
        layer_task(root, *PACKAGES[:2]).key,
        LayerTask(DataDirectory(root), "/opt/other", layer_task(root, *PACKAGES).fragments).key,
    }
    assert len(keys) == 4


def test_a_refused_package_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "data"
    listing = Package(files={"gone": b""}).info_files()["info/paths.json"]
    task = layer_task(root, PACKAGES[0], Package("bad", info={"paths.json": listing}))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(PackageRefused, match="lists gone") as caught:
            pool.submit(assemble, task).result()
    assert caught.value.package == "bad-1.0-0"
    assert sorted(path.name for path in root.iterdir()) == ["contents", "fragments"]
    assert sorted(path.name for path in (root / "fragments").rglob("*") if path.is_file()) == [
        task.fragments[0].recipe.key,
        task.fragments[0].recipe.key + ".json",
    ]


@pytest.mark.parametrize(
    "error",
    [
        PackageRefused("p", "why"),
        PathConflict("lib", ("a", "b")),
        UnknownPackage("nunpy", ["conda-forge"], ["numpy"]),
        InvalidImageName("x..y", "empty"),
        StorageFull("fragments"),
        FragmentsGone(["a", "b"]),
    ],
)
def test_errors_come_back_whole_from_another_process(error: ConderyError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
