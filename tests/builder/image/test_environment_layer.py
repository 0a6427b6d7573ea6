"""The environment layer as conda's and other tools see it, and its entrypoint under real shells."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import warnings
from pathlib import Path

import pytest
import rattler

from builder.archives.file_part import FilePart
from builder.archives.tar_member import TarMember
from builder.image.environment_layer import (
    EnvironmentLayer,
    InstalledPackage,
    compress_layer,
    find_shell,
    list_members,
    write_activation,
    write_entrypoint,
    write_history,
)
from builder.locks.lock import Lock, LockedPackage
from builder.packages.contents import EntryPoint, PackageContents, Placeholder, PythonLayout
from builder.packages.prefix_record import WrittenFile, write_paths, write_prefix_record
from storage.digest import Digest
from tests.support.builder.locks import LOCK, SPEC, package
from tests.support.unpacking import extract_all

PACKED, IN_PREFIX = hashlib.sha256(b"packed").hexdigest(), hashlib.sha256(b"in prefix").hexdigest()
MODIFIED = 1_700_000_200


def contents_of(record: LockedPackage, *targets: str) -> PackageContents:
    return PackageContents(
        package=str(record),
        sources=targets,
        targets=targets,
        kinds="f" * len(targets),
        sizes=[10] * len(targets),
        sha256=[PACKED] * len(targets),
        placeholders={},
        no_link=frozenset(),
        directories=(),
        entry_points=(),
        link_scripts=(),
        timestamp=0,
        noarch=record.noarch,
    )


def installed(record: LockedPackage) -> InstalledPackage:
    path = Path(tempfile.mkdtemp(prefix="condery-test-")) / "paths.json"
    path.write_bytes(b"".join(write_paths(contents_of(record, f"share/{record.name}.txt"), {}, ())))
    return InstalledPackage(record, FilePart.of(path))


def layer_of(lock: Lock = LOCK, shell: str | None = "/bin/sh", user: int | None = None) -> EnvironmentLayer:
    packages = [installed(record) for record in lock.packages["linux-64"]]
    return compress_layer(list_members(lock, "linux-64", packages, shell=shell, user=user), MODIFIED)


def unpacked(layer: EnvironmentLayer) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(layer.content)) as tar:
        return {member.name: member for member in tar}


def test_members() -> None:
    found = unpacked(layer_of())
    assert [name for name, member in found.items() if member.isdir()] == [
        "opt",
        "opt/conda",
        "opt/conda/.condery",
        "opt/conda/conda-meta",
    ]
    assert sorted(name for name, member in found.items() if member.isreg()) == [
        "opt/conda/.condery/activate.sh",
        "opt/conda/.condery/entrypoint",
        "opt/conda/conda-meta/ca-certificates-2026.1.1-hbcca054_0.json",
        "opt/conda/conda-meta/click-8.1.7-pyh1_0.json",
        "opt/conda/conda-meta/conda-lock.yml",
        "opt/conda/conda-meta/history",
        "opt/conda/conda-meta/numpy-2.1.0-py312h1_0.json",
        "opt/conda/conda-meta/python-3.12.8-h1_1_cpython.json",
        "opt/conda/conda-meta/tzdata-2026a-h0_0.json",
    ]
    assert found["opt/conda/.condery/entrypoint"].mode == 0o755
    assert {member.mtime for member in found.values()} == {MODIFIED}
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}
    seen: set[str] = set()
    for name in found:
        assert os.path.dirname(name) in seen | {""}
        seen.add(name)


def test_no_shell_no_entrypoint() -> None:
    assert not [name for name in unpacked(layer_of(shell=None)) if ".condery" in name]


def test_home_of_the_user() -> None:
    found = unpacked(layer_of(user=1000))
    assert found["home"].uid == 0
    assert found["home/conda"].isdir()
    assert (found["home/conda"].uid, found["home/conda"].gid, found["home/conda"].mode) == (1000, 1000, 0o755)


def test_lock_without_md5_is_kept_as_explicit_list() -> None:
    found = unpacked(layer_of(Lock(SPEC, {"linux-64": (package("old", md5=None),)})))
    assert "opt/conda/conda-meta/explicit.txt" in found
    assert "opt/conda/conda-meta/conda-lock.yml" not in found


def test_digests_and_determinism() -> None:
    layer = layer_of()
    assert layer == layer_of()
    assert layer.layer.descriptor.digest == Digest.of(layer.content)
    assert layer.layer.descriptor.size == len(layer.content)
    assert layer.layer.diff_id == Digest.of(gzip.decompress(layer.content))


def test_record_as_rattler_reads_it(tmp_path: Path) -> None:
    record = package(
        "tool",
        "2.0",
        "py_1",
        subdir="noarch",
        noarch="python",
        license="MIT",
        depends=("python >=3.9",),
        build_number=1,
    )
    contents = PackageContents(
        package=str(record),
        sources=["site-packages/tool.py", "etc/tool.conf", "lib/tool", "var/empty", "share/lost"],
        targets=["lib/python3.12/site-packages/tool.py", "etc/tool.conf", "lib/tool", "var/empty", "share/lost"],
        kinds="ffsdf",
        sizes=[10, 20, None, None, 30],
        sha256=[PACKED, PACKED, PACKED, None, PACKED],
        placeholders={1: Placeholder("/placeholder", "text")},
        no_link=frozenset({1}),
        directories=(),
        entry_points=[EntryPoint("tool", "tool", "main")],
        link_scripts=(),
        timestamp=0,
        noarch="python",
        python=PythonLayout("3.12", "lib/python3.12/site-packages"),
    )
    written = {"etc/tool.conf": WrittenFile(IN_PREFIX, 12), "bin/tool": WrittenFile(IN_PREFIX, 99)}
    path = tmp_path / f"{record}.json"
    paths = b"".join(write_paths(contents, written, {"share/lost"}))
    path.write_bytes(write_prefix_record(record, "tool >=2") + paths[1:])

    read = rattler.PrefixRecord.from_path(path)
    assert (read.name.normalized, str(read.version), str(read.build), read.build_number) == ("tool", "2.0", "py_1", 1)
    assert read.sha256
    assert (str(read.url), read.sha256.hex(), read.license) == (record.url, record.sha256, "MIT")
    assert (read.requested_spec, read.requested_specs) == ("tool >=2", ["tool >=2"])
    assert [str(file) for file in read.files] == [
        "bin/tool",
        "etc/tool.conf",
        "lib/python3.12/site-packages/tool.py",
        "lib/tool",
    ]
    entries = {str(entry.relative_path): entry for entry in read.paths_data.paths}
    assert len(entries) == 5
    assert entries["bin/tool"].path_type.unix_python_entry_point
    assert entries["lib/tool"].path_type.softlink
    assert entries["var/empty"].path_type.directory
    conf = entries["etc/tool.conf"]
    assert conf.path_type.hardlink
    assert conf.prefix_placeholder == "/placeholder"
    assert (conf.sha256.hex(), conf.sha256_in_prefix.hex(), conf.size_in_bytes) == (PACKED, IN_PREFIX, 12)
    assert entries["bin/tool"].sha256_in_prefix.hex() == IN_PREFIX
    module = entries["lib/python3.12/site-packages/tool.py"]
    assert module.sha256.hex() == PACKED
    assert module.sha256_in_prefix is None


def test_conda_reads_it(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(layer_of().content)) as tar:
        extract_all(tar, tmp_path)
    prefix = tmp_path / "opt/conda"
    with warnings.catch_warnings():
        # conda's own code, as conda-lock brings it, uses what is deprecated
        warnings.simplefilter("ignore")
        from conda_lock._vendor.conda.core.prefix_data import PrefixData
        from conda_lock._vendor.conda.history import History

        records = {record.name: record for record in PrefixData(prefix).iter_records()}  # type: ignore[no-untyped-call]  # conda's own
        requested = History(prefix).get_requested_specs_map()  # type: ignore[no-untyped-call]  # conda's own
    assert {name: record.dist_str() for name, record in records.items()} == {
        each.name: f"conda-forge/{each.subdir}::{each}" for each in LOCK.packages["linux-64"]
    }
    assert [path._path for path in records["numpy"].paths_data.paths] == ["share/numpy.txt"]
    assert {name: str(spec) for name, spec in requested.items()} == {"numpy": "numpy", "python": "python=3.12"}


def test_history() -> None:
    assert write_history(LOCK, "linux-64").decode() == (
        "==> 2023-11-14 22:16:40 <==\n"
        '# cmd: condery build "numpy" "python =3.12"\n'
        "+conda-forge/linux-64::ca-certificates-2026.1.1-hbcca054_0\n"
        "+conda-forge/linux-64::numpy-2.1.0-py312h1_0\n"
        "+conda-forge/linux-64::python-3.12.8-h1_1_cpython\n"
        "+conda-forge/noarch::click-8.1.7-pyh1_0\n"
        "+conda-forge/noarch::tzdata-2026a-h0_0\n"
        "# update specs: ['numpy', 'python =3.12']\n"
    )


SHELLS = [
    pytest.param(
        command, marks=pytest.mark.skipif(not shutil.which(command[0]), reason=f"{command[0]} is not installed")
    )
    for command in (["sh"], ["dash"], ["bash"], ["busybox", "sh"])
]

SCRIPTS = {
    "10-first.sh": "export ORDER=1\n",
    "20-unset.sh": 'export ORDER="$ORDER 2 $NOT_SET"\n',
    "30-arguments.sh": 'set -- swallowed; set -eu; export SECOND="$CONDA_PREFIX/share"\n',
    "40-broken.sh": "if then fi (\n",
    "50-last.sh": 'export ORDER="$ORDER 5"\n',
    "notes.txt": "exit 3\n",
}


def activated(shell: list[str], prefix: Path, *command: str) -> subprocess.CompletedProcess[str]:
    script = prefix / "entrypoint"
    script.write_bytes(write_entrypoint("/bin/sh"))
    (prefix / "activate.sh").write_bytes(write_activation())
    environment = {"CONDA_PREFIX": str(prefix), "PATH": os.environ["PATH"]}
    return subprocess.run([*shell, script, *command], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("shell", SHELLS)
def test_entrypoint_activates(shell: list[str], tmp_path: Path) -> None:
    prefix = tmp_path / "a prefix"
    folder = prefix / "etc/conda/activate.d"
    folder.mkdir(parents=True)
    for name, text in SCRIPTS.items():
        (folder / name).write_text(text)
    done = activated(shell, prefix, "sh", "-c", 'echo "$ORDER|$SECOND|$1|${script-unset}"; exit 7', "sh", "two words")
    assert done.stdout == f"1 2  5|{prefix}/share|two words|unset\n"
    assert done.returncode == 7
    assert "40-broken.sh" in done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_entrypoint_without_scripts(shell: list[str], tmp_path: Path) -> None:
    done = activated(shell, tmp_path, "echo", "ready")
    assert (done.stdout, done.stderr, done.returncode) == ("ready\n", "", 0)


def test_which_shell() -> None:
    assert find_shell("/opt/conda", frozenset(), None) is None
    assert find_shell("/opt/conda", frozenset(), "/bin/bash") == "/bin/bash"
    assert find_shell("/opt/conda", {"bin/dash"}, None) == "/opt/conda/bin/dash"
    assert find_shell("/opt/conda", {"bin/bash", "bin/sh"}, "/bin/bash") == "/opt/conda/bin/bash"


@pytest.mark.parametrize("shell", SHELLS)
def test_activation_is_done_once(shell: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "etc/conda/activate.d"
    folder.mkdir(parents=True)
    (folder / "count.sh").write_text('export COUNT="$COUNT+"; sh -c true; bash -c true\n')
    inner = 'echo "$COUNT"; bash -c \'echo "$COUNT"\''
    assert activated(shell, tmp_path, "bash", "-c", inner).stdout == "+\n+\n"


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize("options", ["-c", "-eufc", "-xuc", "-euo"])
def test_bash_past_the_entrypoint_is_activated(options: str, tmp_path: Path) -> None:
    folder = tmp_path / "etc/conda/activate.d"
    folder.mkdir(parents=True)
    (folder / "strict.sh").write_text(
        "false; set -euo pipefail; export ARRAY_LENGTH=; x=(1 2); ARRAY_LENGTH=${#x[@]}\n"
    )
    (folder / "unset.sh").write_text("export SECOND=yes$NOT_SET; false\n")
    (tmp_path / "activate.sh").write_bytes(write_activation())
    environment = {
        "CONDA_PREFIX": str(tmp_path), "PATH": os.environ["PATH"], "BASH_ENV": str(tmp_path / "activate.sh")
    }  # fmt: skip
    words = ["pipefail", "-c"] if options == "-euo" else []
    script = 'echo "$ARRAY_LENGTH $SECOND $1 $-"; [ -o pipefail ] && echo piped || :'
    done = subprocess.run(
        ["bash", options, *words, script, "name", "argument"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    plain = subprocess.run(
        ["bash", options, *words, script, "name", "argument"],
        env={**environment, "BASH_ENV": "", "ARRAY_LENGTH": "2", "SECOND": "yes"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout == plain.stdout
    assert done.stdout.startswith("2 yes argument ")


def test_activation_is_harmless_without_a_prefix(tmp_path: Path) -> None:
    (tmp_path / "activate.sh").write_bytes(write_activation())
    done = subprocess.run(
        ["bash", "-euc", "echo fine"],
        env={"PATH": os.environ["PATH"], "BASH_ENV": str(tmp_path / "activate.sh"), "CONDERY_ACTIVATED": "/other"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("fine\n", "", 0)


def test_a_home_is_not_listed_twice() -> None:
    layer = compress_layer(
        [TarMember("home/conda", None, 0o755, 5), TarMember("home/conda/file", b"", owner=5)], MODIFIED
    )
    assert list(unpacked(layer)) == ["home", "home/conda", "home/conda/file"]
