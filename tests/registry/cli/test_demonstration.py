"""The demo's own parts: what it accepts as an answer, and how it unpacks layers."""

from __future__ import annotations

import io
import json
import math
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.cli.demonstration import DemoFailed, check, demo_settings, extract
from registry.settings.loading import load, variables_of

# by the sum over permutations, which the demo does not use
DETERMINANT = 71.0
ANSWER = {"numpy": "2.0", "scipy": "1.14", "determinant": DETERMINANT + 1e-12, "area": math.sqrt(math.pi)}


def layer(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def test_the_right_answer_is_accepted() -> None:
    assert check(json.dumps(ANSWER)).startswith("numpy 2.0 and scipy 1.14 in the image computed ")


@pytest.mark.parametrize(
    "output",
    ["", "hello", "{}", json.dumps({**ANSWER, "determinant": DETERMINANT + 1}), json.dumps({**ANSWER, "area": 1.77})],
)
def test_any_other_answer_is_refused(output: str) -> None:
    with pytest.raises(DemoFailed):
        check(output)


def test_layers_are_laid_over_each_other(tmp_path: Path) -> None:
    root = tmp_path / "root"
    extract(
        layer(
            tmp_path / "one",
            (member("usr", tarfile.DIRTYPE, mode=0o755), b""),
            (member("usr/lib", tarfile.DIRTYPE, mode=0o755), b""),
            (member("lib", tarfile.SYMTYPE, "usr/lib"), b""),
            (member("usr/lib/a", mode=0o755), b"old"),
        ),
        root,
    )
    extract(
        layer(
            tmp_path / "two",
            (member("lib/a"), b"new"),
            (member("usr/lib/b", tarfile.LNKTYPE, "usr/lib/a"), b""),
            (member("abs", tarfile.SYMTYPE, "/etc"), b""),
        ),
        root,
    )
    assert (root / "usr/lib/a").read_bytes() == b"new"
    assert (root / "usr/lib/a").stat().st_nlink == 2
    assert (root / "lib").is_symlink()
    assert (root / "abs").readlink() == Path("/etc")


@pytest.mark.parametrize(
    "make",
    [
        lambda outside: [(member("../escaped"), b"x")],
        lambda outside: [(member("out", tarfile.SYMTYPE, str(outside)), b""), (member("out/escaped"), b"x")],
        lambda outside: [(member("up", tarfile.SYMTYPE, ".."), b""), (member("up/escaped"), b"x")],
        lambda outside: [(member("link", tarfile.LNKTYPE, "../secret"), b"")],
        lambda outside: [(member("fifo", tarfile.FIFOTYPE), b"")],
    ],
    ids=["dots", "absolute link", "relative link", "hard link", "fifo"],
)
def test_nothing_is_written_outside(
    tmp_path: Path, make: Callable[[Path], list[tuple[tarfile.TarInfo, bytes]]]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(DemoFailed):
        extract(layer(tmp_path / "layer", *make(outside)), tmp_path / "root")
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "escaped").exists()


def test_the_demo_changes_only_what_was_not_set(tmp_path: Path) -> None:
    settings = demo_settings(load({"root": "images"}), tmp_path, once=True)
    assert settings.http.port == 0
    assert settings.builder.root == "images"
    assert settings.builder.channels == ((tmp_path / "channel").as_uri(),)
    assert settings.data_directory == tmp_path / "data"
    chosen = demo_settings(load({"port": 7, "data_directory": str(tmp_path)}), tmp_path / "x", once=True)
    assert (chosen.http.port, chosen.data_directory) == (7, tmp_path)


def test_another_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDERY_FRAGMENTS_LIMIT", "7")
    flags = {"channels": "a,b", "refuse_scripts": "true", "port": "7", "gc_interval": "9"}
    settings = load({**flags, "webhooks": "https://h/a,b actions=push,delete,https://o"}).settings
    variables = variables_of(settings)
    assert variables["PATH"] == os.environ["PATH"]
    monkeypatch.setattr(os, "environ", variables)
    assert load().settings == settings
