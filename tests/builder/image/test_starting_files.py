"""Variables and activation scripts, from packages to the image's config and report."""

from __future__ import annotations

import bz2
import json
from pathlib import Path
from typing import Any

import pytest
from rattler.index import index_fs
from rattler.shell import ActivationVariables, Shell, activate

from builder.errors import PrefixUnsuitable
from builder.image.activation import needs_bash
from builder.image.variables import read_variables
from builder.packages.starting_files import StartingFile
from storage.digest import Digest
from tests.support.builder.packages import PLACEHOLDER, Entry, File, Link, Package, pack
from tests.support.builder.services import make_channel, manifest_of, open_service, spec_of

VARIABLES = "etc/conda/env_vars.d"


async def built(tmp_path: Path, channel: str, *specs: str, **settings: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """The variables of the image's config, and its document with the report."""
    async with open_service(tmp_path / "data", channel, **settings) as service:
        image = await service.build(spec_of(service, *specs))
        manifest = await manifest_of(service, image)
        digest = Digest.parse(manifest["config"]["digest"])
        config = json.loads(await service.builder.blobs.content(digest))["config"]
        document = await service.builder.catalog.images.find_newest_of_lock(image.lock_key)
    assert document is not None
    return dict(entry.partition("=")[::2] for entry in config["Env"]), document


async def test_the_winner_with_its_prefix_replaced(tmp_path: Path) -> None:
    packages = [
        Package(name="first", files={f"{VARIABLES}/x.json": File(
            json.dumps({"X": f"{PLACEHOLDER}/share"}).encode(), placeholder="text")}),
        Package(name="second", files={f"{VARIABLES}/x.json": b'{"X": "of second", "LOST": "1"}'}),
    ]  # fmt: skip
    channel = await make_channel(tmp_path / "channel", packages)
    variables, _ = await built(tmp_path, channel, "first", "second")
    assert variables["X"] == "/opt/conda/share"
    assert "LOST" not in variables


async def test_names_that_begin_with_a_dot_in_the_archive(tmp_path: Path) -> None:
    package = Package(name="dotted", files={f"{VARIABLES}/x.json": b'{"X": "1"}'})
    entries: dict[str, Any] = {f"./{name}": File(content) for name, content in package.info_files().items()}
    entries |= {f"./{path}": entry for path, entry in package.files.items()}
    folder = tmp_path / "channel"
    package.tar_bz2(folder)
    (folder / "noarch").mkdir()
    await index_fs(folder, write_zst=False, write_shards=False)
    # rattler's indexer reads no such archive, so its record is written here
    made = package.made(folder, "dotted-1.0-0.tar.bz2", bz2.compress(pack(entries)))
    repodata = json.loads((folder / "linux-64/repodata.json").read_bytes())
    record = repodata["packages"][made.record.file_name]
    record |= {"size": made.record.size, "sha256": made.record.sha256, "md5": made.record.md5}
    (folder / "linux-64/repodata.json").write_text(json.dumps(repodata))
    variables, _ = await built(tmp_path, (tmp_path / "channel").as_uri(), "dotted")
    assert variables["X"] == "1"


async def test_links_are_followed_inside_the_prefix(tmp_path: Path) -> None:
    packages = [
        Package(
            name="links",
            files={
                f"{VARIABLES}/a": Link("../../../share/current/values"),
                f"{VARIABLES}/b.json": Link("/opt/conda/share/other.json"),
                f"{VARIABLES}/out": Link("/etc/passwd"),
                f"{VARIABLES}/loop": Link("loop"),
                "share/current": Link("v1"),
                "share/v1/values": b'{"A": "1"}',
            },
        ),
        Package(name="other", files={"share/other.json": b'{"B": "2"}'}),
        Package(name="hard", files={"share/hard": b'{"C": "3"}', f"{VARIABLES}/c": Link("share/hard", hard=True)}),
    ]
    channel = await make_channel(tmp_path / "channel", packages)
    variables, document = await built(tmp_path, channel, "links", "other", "hard")
    assert (variables["A"], variables["B"], variables["C"]) == ("1", "2", "3")
    assert document["image"]["warnings"] == ["variables were skipped (see condery explain): links-1.0-0"]
    skipped = document["report"]["platforms"]["linux-64"]["variables"]
    assert [line.partition(" of ")[0] for line in skipped] == [f"{VARIABLES}/loop", f"{VARIABLES}/out"]


async def test_a_folder_that_is_a_link(tmp_path: Path) -> None:
    files: dict[str, Entry] = {VARIABLES: Link("../../share/vars"), "share/vars/x": b'{"X": "1"}'}
    channel = await make_channel(tmp_path / "channel", [Package(name="folder", files=files)])
    variables, _ = await built(tmp_path, channel, "folder")
    assert variables["X"] == "1"


@pytest.mark.parametrize(
    "content",
    [b"not JSON", b"[]", b'{"X": [1]}', b'{"A=B": "1"}', b'{"": "1"}', b'{"X": "\\u0000"}', b"\xff", b"",
     b'{"X": "' + b"y" * (128 << 10) + b'"}', b'{"A\\u001bB": "1"}'],
)  # fmt: skip
def test_what_cannot_be_used_is_skipped(content: bytes) -> None:
    files = [
        StartingFile("bad-1-0", f"{VARIABLES}/bad", content),
        StartingFile("good-1-0", f"{VARIABLES}/good", b'{"GOOD": "1"}'),
    ]
    variables = read_variables(files)
    assert variables.values == {"GOOD": "1"}
    assert variables.packages == {"bad-1-0"}
    assert len(variables.skipped) == 1


def test_all_together_are_bounded() -> None:
    files = [StartingFile("p-1-0", f"{VARIABLES}/{n:02}", b'{"V%d": "%s"}' % (n, b"y" * 100_000)) for n in range(20)]
    variables = read_variables(files)
    assert len(variables.values) == 10
    assert len(variables.skipped) == 10


def test_as_rattler_reads_them(tmp_path: Path) -> None:
    """But for numbers, which rattler skips and conda writes."""
    files = {"b.json": b'{"X": "b", "lower": "1"}', "a": b'{"X": "a", "A": "1", "A": "2"}', "c": b'{"N": null}'}
    folder = tmp_path / VARIABLES
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    script = activate(tmp_path, ActivationVariables(), Shell.bash).script.splitlines()
    theirs = dict(line.removeprefix("export ").split("=", 1) for line in script if line.startswith("export "))
    ours = read_variables(StartingFile("p-1-0", f"{VARIABLES}/{name}", text) for name, text in files.items()).values
    assert ours == {name: value for name, value in theirs.items() if name != "PATH" and not name.startswith("CONDA_")}


def test_numbers_and_null_as_conda_reads_them() -> None:
    files = [
        StartingFile("a-1-0", f"{VARIABLES}/a", b'{"N": 1, "F": 1.5, "T": true, "X": "1"}'),
        StartingFile("a-1-0", f"{VARIABLES}/b", b'{"X": null}'),
        StartingFile("a-1-0", "conda-meta/state", b'{"env_vars": {"F": "state"}}'),
    ]
    assert read_variables(files).values == {"N": "1", "F": "state", "T": "True"}


@pytest.mark.parametrize(
    "script",
    ["function f() { :; }", "if [[ -n $X ]]; then :; fi", "x=(1 2)", "declare -A y", "source other", "cat <<< x",
     "echo ${x//a/b}", "echo ${x[0]}", "echo ${x:0:1}", "echo ${!x}", "PATH+=:/x", "diff <(a) <(b)", "a &> b",
     "[ $a == b ] && c", "export A; shopt -s nullglob", "echo ${BASH_SOURCE[0]}", "#!/bin/bash\n:", "echo $'a'",
     "if true; then source x; fi", "for ((i=0;i<3;i++)); do :; done"],
)  # fmt: skip
def test_needs_bash(script: str) -> None:
    assert needs_bash(script.encode())


@pytest.mark.parametrize(
    "script",
    ["#!/bin/sh\nexport A=1", "# a function f in [[ a comment\n:", '[ -n "${X:-}" ] && export Y="${X%/*}"',
     'if [ "$a" = b ]; then . "$CONDA_PREFIX/x"; fi', "f() { :; }\nf", "echo $((1 + 2)) ${x:+y} ${#x} 2>&1",
     "case $x in (a|b) :;; esac"],
)  # fmt: skip
def test_any_shell_will_do(script: str) -> None:
    assert not needs_bash(script.encode())


async def test_scripts_without_the_shell_they_need_are_told(tmp_path: Path) -> None:
    files = {"etc/conda/activate.d/gcc.sh": b"function f() { x=(1); }\n"}
    packages = [Package(name="gcc", files=files), Package(name="dash", files={"bin/dash": b"x"}),
                Package(name="bash", files={"bin/bash": b"x"})]  # fmt: skip
    channel = await make_channel(tmp_path / "channel", packages)
    for specs, told in ((["gcc"], "no shell"), (["gcc", "dash"], "written for bash"), (["gcc", "bash"], None)):
        _, document = await built(tmp_path, channel, *specs)
        warnings = document["image"]["warnings"]
        assert bool(warnings) == bool(told)
        assert all(told in text and "gcc-1.0-0" in text for text in warnings if told)


async def test_the_host_base_has_bash(tmp_path: Path) -> None:
    channel = await make_channel(
        tmp_path / "channel", [Package(name="gcc", files={"etc/conda/activate.d/gcc.sh": b"x=(1)\n"})]
    )
    variables, document = await built(tmp_path, channel, "gcc", base="host")
    assert document["image"]["warnings"] == []
    assert variables["BASH_ENV"] == "/opt/conda/.condery/activate.sh"


async def test_a_prefix_through_a_link_of_the_base(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [Package(name="x", files={"share/x": b"x"})])
    async with open_service(tmp_path / "data", channel, base="host", prefix="/usr/bin/sh/env") as service:
        with pytest.raises(PrefixUnsuitable, match=r"/usr/bin/sh is a symbolic link in the base host; use"):
            await service.build(spec_of(service, "x"))
