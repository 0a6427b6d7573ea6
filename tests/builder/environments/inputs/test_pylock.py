"""`pylock.toml` as an input: what uv and condery write, and what is refused."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import tomli_w
from uv import find_uv_bin

from builder.environments.inputs.input import InputKind, InputSettings
from builder.environments.inputs.reading import read_input
from builder.errors import InputInvalid
from builder.locks.pylock import write_pylock
from builder.names.spec import EnvironmentSpec
from builder.pypi.page import IndexFile, IndexPage
from builder.pypi.view import View
from tests.support.builder.locks import MIXED, WHEELS
from tests.support.pypi.index_server import IndexServer

SETTINGS = InputSettings(platforms=("linux-64",), pypi_indexes=("https://pypi.org/simple",))
SHA256 = "a" * 64
WHEEL = {"url": "https://f.example.org/a-1-py3-none-any.whl", "hashes": {"sha256": SHA256}}
VCS = {"type": "git", "url": "https://e.org", "commit-id": "x"}
PACKAGE = {"name": "a", "version": "1", "wheels": [WHEEL]}


def document(*packages: Mapping[str, object], **more: object) -> str:
    return tomli_w.dumps({"lock-version": "1.0", "created-by": "x", **more, "packages": list(packages)})


def test_one_of_ours_asks_for_the_same_wheels() -> None:
    content = write_pylock(MIXED, "linux-64")
    for is_lock in (None, True, False):
        found = read_input(content, SETTINGS, is_lock=is_lock)
        assert (found.kind, found.lock) == (InputKind.PYLOCK, None)
    assert found.spec.match_specs() == ["python =3.12"]
    assert found.spec.requirements == ("charset-normalizer==3.4.0", "requests==2.32.3")
    assert dict(found.spec.hashes) == {wheel.title: (wheel.sha256,) for wheel in WHEELS}
    assert found.spec.indexes == ()
    assert EnvironmentSpec.from_json(found.spec.to_json()) == found.spec


async def test_what_uv_writes_is_read(tmp_path: Path) -> None:
    async with IndexServer() as index:
        index.add("app", "1.0", ["lib>=1; python_version >= '3'"])
        index.add("lib", "1.5")
        (tmp_path / "in").write_text("app\n")
        command = [find_uv_bin(), "pip", "compile", "in", "--universal", "-o", "pylock.toml", "--no-config"]
        options = ["--cache-dir", "cache", "--default-index", index.url, "--python-version", "3.12", "--no-header"]
        await asyncio.to_thread(
            subprocess.run, [*command, *options], cwd=tmp_path, check=True, capture_output=True, timeout=60
        )
        found = read_input((tmp_path / "pylock.toml").read_bytes(), SETTINGS)
    assert [each.split(";")[0] for each in found.spec.requirements] == ["app==1.0", "lib==1.5"]
    assert {name: len(each) for name, each in found.spec.hashes} == {"app": 1, "lib": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lock-version = ", "it is not TOML"),
        ('lock-version = "9.0"\ncreated-by = "x"\npackages = []', "PEP 751"),
        ('lock-version = "1.0"\n', "PEP 751"),
        (document({"name": "a", "version": "1", "vcs": VCS}), "no wheels"),
        (document({"name": "a", "version": "1", "sdist": WHEEL | {"url": "https://e.org/a-1.tar.gz"}}), "no wheels"),
        (document({"name": "a", "version": "1", "wheels": [WHEEL | {"hashes": {"md5": "x"}}]}), "needs its sha256"),
        (document({"name": "a", "wheels": [WHEEL]}), "has no version"),
        (document(PACKAGE | {"marker": "'x' in extras"}), "packages[0].marker: "),
        (document(PACKAGE | {"index": "file:///srv"}), "packages.index"),
        (document(PACKAGE, **{"requires-python": "===x"}), "requires-python"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        read_input(text.encode(), SETTINGS)
    assert says in str(caught.value)


def test_another_index_of_the_file_is_asked() -> None:
    found = read_input(document(PACKAGE | {"index": "https://own.example.org/simple/"}).encode(), SETTINGS)
    assert found.spec.indexes == ("https://own.example.org/simple",)


def test_no_file_of_another_hash_is_shown_to_the_solver() -> None:
    def file(name: str, sha256: str) -> IndexFile:
        return IndexFile(name, f"https://f.example.org/{name}", sha256, 1, 1, None, None, None)

    index = "https://pypi.org/simple"
    view = View((index,), hashes=(("a", (SHA256,)),))
    page = IndexPage(index, (file("a-1-py3-none-any.whl", SHA256), file("a-2-py3-none-any.whl", "b" * 64)))
    assert view.show("a", page).versions == ("1",)
    # what the lock does not name is not taken at all
    assert view.show("b", IndexPage(index, (file("b-1-py3-none-any.whl", SHA256),))).versions == ()
    assert view.key != View((index,)).key
