"""Joins of fragments: what is in them, that they are made once, and the same every time."""

import gzip
import io
import multiprocessing
import os
import pickle
import shutil
import subprocess
import tarfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from builder.contents import inspect
from builder.errors import InvalidImageName, PackageRefused, PathConflict, UnknownPackage
from builder.fragment import FragmentRecipe
from builder.layer import AssembledLayer, FragmentTask, LayerTask, assemble, keep
from storage.blobs import FileBlobStore
from storage.digest import Digest
from storage.errors import ConderyError, StorageFull
from tests.builder.packages import PLACEHOLDER, Directory, File, Link, Package

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


def made(task: LayerTask) -> AssembledLayer:
    """The layer, stored."""
    layer = assemble(task)
    keep(task, layer)
    return replace(layer, parts=())


def layer_task(root: Path, *packages: Package, archives: Path | None = None) -> LayerTask:
    tasks = []
    for package in packages:
        made = package.conda(archives or root.with_name(f"{root.name}-archives"))
        contents = inspect(made.path, made.record, None, root / "contents")
        recipe = FragmentRecipe.of(made.record.archive_key, contents, "/opt/conda")
        tasks.append(FragmentTask(recipe, made.record, made.path))
    return LayerTask(root, "/opt/conda", tuple(tasks))


def blob(root: Path, layer: AssembledLayer) -> bytes:
    return b"".join(FileBlobStore(root).read(layer.digest))


def members(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        return archive.getmembers()


def test_a_layer_is_directories_then_fragments_and_no_path_twice(tmp_path: Path) -> None:
    layer = made(layer_task(tmp_path / "data", *PACKAGES))
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
    assert [info.written.keys() for info in layer.fragments] == [{"bin/a"}, set(), set()]


def test_gnu_tar_unpacks_it(tmp_path: Path) -> None:
    (tmp_path / "l.tar.gz").write_bytes(blob(tmp_path / "data", made(layer_task(tmp_path / "data", *PACKAGES))))
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


def test_the_same_task_gives_the_same_layer_from_archives_fragments_or_memory(tmp_path: Path) -> None:
    task = layer_task(tmp_path / "one", *PACKAGES)
    cold = made(task)
    remembered = made(task)
    shutil.rmtree(tmp_path / "one/layers")
    for fragment in task.fragments:
        fragment.archive.unlink()
    joined = made(task)
    other = made(layer_task(tmp_path / "two", *PACKAGES))
    assert cold == remembered == joined == other
    assert blob(tmp_path / "one", cold) == blob(tmp_path / "two", cold)


def test_fragments_are_shared_between_layers(tmp_path: Path) -> None:
    root = tmp_path / "data"
    made(layer_task(root, *PACKAGES))
    before = {path: path.stat().st_mtime_ns for path in (root / "fragments").rglob("*") if path.is_file()}
    made(layer_task(root, PACKAGES[1], PACKAGES[0]))
    assert before == {path: path.stat().st_mtime_ns for path in (root / "fragments").rglob("*") if path.is_file()}


@pytest.mark.parametrize("damage", ["cut", "cut unnoticed", "flip", "appended", "gone", "sidecar"])
def test_a_damaged_fragment_is_made_anew(tmp_path: Path, damage: str) -> None:
    root = tmp_path / "data"
    task = layer_task(root, *PACKAGES)
    layer = made(task)
    path = FileBlobStore(root).fragment_path(task.fragments[0].recipe.key)
    sidecar = path.with_name(path.name + ".json")
    whole, said = path.read_bytes(), sidecar.read_bytes()
    shutil.rmtree(root / "layers")
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
    assert made(task) == layer
    assert path.read_bytes() == whole
    assert Digest.of(blob(root, layer)) == layer.digest


def test_a_remembered_layer_needs_its_blob_and_fragments(tmp_path: Path) -> None:
    root = tmp_path / "data"
    task = layer_task(root, *PACKAGES)
    layer = made(task)
    for lost in ("blobs", "fragments"):
        shutil.rmtree(root / lost)
        assert made(task) == layer
        assert Digest.of(blob(root, layer)) == layer.digest


def test_order_and_content_are_in_the_key(tmp_path: Path) -> None:
    root = tmp_path / "data"
    keys = {
        layer_task(root, *PACKAGES).key,
        layer_task(root, *PACKAGES[::-1]).key,
        layer_task(root, *PACKAGES[:2]).key,
        LayerTask(root, "/opt/other", layer_task(root, *PACKAGES).fragments).key,
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
    assert not (root / "blobs").exists()
    assert not (root / "layers").exists()
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
    ],
)
def test_errors_come_back_whole_from_another_process(error: ConderyError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
