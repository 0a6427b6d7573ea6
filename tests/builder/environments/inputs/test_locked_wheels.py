"""Wheels in locks that somebody else wrote."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from builder.channels.index_policy import IndexPolicy
from builder.environments.inputs.input import InputSettings
from builder.environments.inputs.locks.conda_lock import read_conda_lock
from builder.environments.inputs.locks.locked_wheel import WheelFacts, read_wheel
from builder.environments.inputs.locks.pixi_lock import read_pixi_lock
from builder.errors import IndexNotAllowed, InputInvalid
from builder.locks.formats import write_conda_lock
from builder.locks.pixi_lock import write_pixi_lock
from tests.support.builder.locks import MIXED, WHEELS

SHA256 = "a" * 64
FILE = "https://files.pythonhosted.org/packages/ab/requests-2.32.3-py3-none-any.whl"
SETTINGS = InputSettings(
    channels=("conda-forge",), channel_alias="https://conda.example.org", pypi_indexes=("https://pypi.org/simple",)
)


def read(url: Any, platform: str = "linux-64", settings: InputSettings = SETTINGS, **facts: Any) -> Any:
    return read_wheel(url, WheelFacts(**({"sha256": SHA256} | facts)), platform, "package[0]", settings)


@pytest.mark.parametrize("kind", ["conda-lock", "pixi"])
def test_a_lock_of_ours_is_read_back(kind: str) -> None:
    if kind == "pixi":
        found = read_pixi_lock(yaml.safe_load(write_pixi_lock(MIXED)), SETTINGS)
    else:
        found = read_conda_lock(yaml.safe_load(write_conda_lock(MIXED)), SETTINGS)
    assert found.lock
    assert found.pip == ()
    read_back = {package.name: package for package in found.lock.packages["linux-64"] if package.is_wheel}
    for wheel in WHEELS:
        # what its archive says is not taken from a lock
        told = replace(wheel, depends=(), requires_python=None, timestamp=None, license=None, subdir="noarch")
        assert replace(read_back[wheel.name], size=wheel.size, subdir="noarch") == told
    assert [package.is_wheel for package in found.lock.packages["linux-64"]][-2:] == [True, True]


@pytest.mark.parametrize(
    ("url", "facts", "says"),
    [
        (None, {}, "must be the address of a wheel"),
        ("file:///etc/passwd-1-py3-none-any.whl", {}, "does not start with https"),
        ("./wheels/x-1-py3-none-any.whl", {}, "paths and source code cannot be installed"),
        ("git+https://example.org/x", {}, "does not start with https"),
        ("https://example.org:port/x-1-py3-none-any.whl", {}, "is not an address"),
        ("https://example.org/a/../x-1-py3-none-any.whl", {}, ".. in its path"),
        ("https://example.org/%2e%2e/x-1-py3-none-any.whl", {}, ".. in its path"),
        ("https://example.org/x-1-py3-none-any.whl?a=b", {}, "a query"),
        ("https://example.org/x-1-py3-none-any.whl#egg=x", {}, "a fragment"),
        ("https://example.org/x-1.tar.gz", {}, "is source code"),
        ("https://example.org/x.whl", {}, "not the name of a wheel"),
        ("https://example.org/x-one-py3-none-any.whl", {}, "not the name of a wheel"),
        (FILE, {"sha256": None}, "needs its sha256"),
        (FILE, {"sha256": "b" * 63}, "needs its sha256"),
        (FILE, {"name": "flask"}, "package[0].name: it is 'flask'"),
        (FILE, {"name": 1}, "package[0].name"),
        (FILE, {"version": "2.32.4"}, "package[0].version: it is '2.32.4'"),
        (FILE, {"version": "?"}, "package[0].version"),
        ("https://example.org/x-1-cp312-cp312-win_amd64.whl", {}, "is not for linux-64"),
        ("https://example.org/x-1-cp312-cp312-manylinux_2_17_aarch64.whl", {}, "is not for linux-64"),
        ("https://example.org/x-1-cp312-cp312-musllinux_1_2_x86_64.whl", {}, "is not for linux-64"),
    ],
)
def test_what_is_refused(url: Any, facts: dict[str, Any], says: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        read(url, **facts)
    assert says in str(caught.value)


def test_names_and_versions_are_compared_as_pypi_does() -> None:
    wheel = read(FILE + f"#sha256={SHA256}", name="Requests", version="2.32.3.0", sha256=SHA256.upper())
    assert (wheel.url, wheel.sha256, wheel.channel) == (FILE, SHA256, "https://pypi.org/simple")
    assert read("https://e.org/x-1-cp312-cp312-linux_aarch64.whl", "linux-aarch64").subdir == "linux-aarch64"


def test_credentials_in_an_address_are_left_out() -> None:
    assert read("https://user:secret@files.pythonhosted.org/a/x-1-py3-none-any.whl").url == (
        "https://files.pythonhosted.org/a/x-1-py3-none-any.whl"
    )


def test_a_lock_does_not_choose_whose_files_are_fetched() -> None:
    """A lock names addresses only. Its wheels are of an index that the server knows, or of their host, as one."""
    policy = IndexPolicy(("https://pypi.org/simple", "https://own.example.org/simple"))
    settings = replace(SETTINGS, pypi_indexes=policy.indexes)
    for url in (FILE, "https://own.example.org/files/x-1-py3-none-any.whl"):
        policy.check_package(read(url, settings=settings))
    elsewhere = read("https://evil.example.org/simple/x-1-py3-none-any.whl", settings=settings)
    with pytest.raises(IndexNotAllowed, match=r"evil\.example\.org"):
        policy.check_package(elsewhere)
    allowed = IndexPolicy.of(policy.indexes, ("https://evil.example.org",), "none")
    allowed.check_package(elsewhere)
