"""pixi.lock: what is read of it, and every rejection with its message."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from builder.environments.inputs.input import EnvironmentInput, InputKind, InputSettings
from builder.environments.inputs.reading import read_input
from builder.errors import InputInvalid
from builder.locks.pixi_lock import write_pixi_lock
from tests.support.builder.locks import LOCK

SETTINGS = InputSettings(channel_alias="https://conda.example.org")
BASE = "https://conda.example.org/conda-forge"
SHA256, MD5 = "a" * 64, "b" * 32
A = f"{BASE}/linux-64/a-1.0-h0_3.conda"


def entry(url: str = A, **fields: Any) -> dict[str, Any]:
    return {"conda": url, "sha256": SHA256, "md5": MD5} | fields


def document(*entries: dict[str, Any], version: Any = 6, platform: str = "linux-64", **keys: Any) -> dict[str, Any]:
    listed = [{kind: each[kind]} for each in entries for kind in ("conda", "pypi", "conda_source") if kind in each]
    return {
        "version": version,
        "environments": {"default": {"channels": [{"url": f"{BASE}/"}], "packages": {platform: listed}}},
        "packages": list(entries),
    } | keys


def read(value: Any, settings: InputSettings = SETTINGS) -> EnvironmentInput:
    return read_input(json.dumps(value).encode(), settings)


def test_what_condery_writes() -> None:
    found = read_input(write_pixi_lock(LOCK), SETTINGS, is_lock=True)
    assert found.kind is InputKind.PIXI_LOCK
    assert found.lock
    assert found.spec.channels == ("conda-forge",)
    ours = {p.name: p for p in found.lock.packages["linux-64"]}
    assert len(ours) == len(LOCK.packages["linux-64"])
    for package in LOCK.packages["linux-64"]:
        read_back = ours[package.name]
        kept = replace(package, license=None, timestamp=None, noarch=read_back.noarch)
        assert read_back == kept


FLASK = "https://files.example.org/flask-3.0-py3-none-any.whl"


def test_version_5() -> None:
    packages = [
        {"kind": "conda", "name": "a", "version": "1.0", "build": "h0_3", "url": A, "md5": MD5, "size": 5},
        {"kind": "pypi", "name": "Flask", "version": "3.0", "url": FLASK, "sha256": SHA256},
    ]
    value = document(version=5) | {"packages": packages}
    value["environments"]["default"]["packages"]["linux-64"] = [
        {"conda": A},
        {"pypi": FLASK},
    ]
    found = read(value)
    assert found.lock
    conda, wheel = found.lock.packages["linux-64"]
    assert (conda.md5, conda.size, conda.sha256) == (MD5, 5, None)
    assert (wheel.name, wheel.version, wheel.build) == ("pypi:flask", "3.0", "py3-none-any")
    # no index of the server's is there, so the host itself has to be allowed
    assert (wheel.url, wheel.sha256, wheel.channel) == (FLASK, SHA256, "https://files.example.org")


def test_version_3() -> None:
    value = {
        "version": 3,
        "metadata": {"platforms": ["linux-64", "osx-64"], "channels": [{"url": f"{BASE}/", "used_env_vars": []}]},
        "package": [
            {
                "platform": platform,
                "name": "a",
                "version": "1.0",
                "manager": "conda",
                "dependencies": ["b >=1"],
                "url": f"{BASE}/noarch/a-1.0-py_0.conda",
                "hash": {"md5": MD5, "sha256": SHA256},
                "build": "py_0",
                "subdir": platform,
                "noarch": "python",
                "size": 7,
            }
            for platform in ("linux-64", "osx-64")
        ],
    }
    found = read(value)
    assert found.kind is InputKind.PIXI_LOCK
    assert found.lock
    (only,) = found.lock.packages["linux-64"]
    assert (only.depends, only.noarch, only.subdir, only.size) == (("b >=1",), "python", "noarch", 7)
    assert found.warnings == ("metadata.platforms: environments are made for Linux only; left out: osx-64",)


def test_version_7_names_platforms() -> None:
    platforms = [{"name": "server", "subdir": "linux-64", "virtual-packages": ["__cuda >=12"]}, {"name": "osx-64"}]
    value = document(entry(), version=7, platform="server", platforms=platforms)
    value["environments"]["gpu"] = value["environments"]["default"]
    found = read(value)
    assert found.spec.platforms == ("linux-64",)
    assert found.warnings == ("environments: default is built; left out: 'gpu'",)


def test_what_rules_judge_is_not_taken_from_the_file() -> None:
    found = read(document(entry(license="MIT", timestamp=1, constrains=["c"], depends=["b"], build_number=9)))
    assert found.lock
    (only,) = found.lock.packages["linux-64"]
    assert (only.license, only.timestamp, only.since) == (None, None, None)
    assert (only.constrains, only.depends, only.build_number) == (("c",), ("b",), 9)


REJECTED = [
    (document(version=1000), "version: it is '1000'; versions 2 to 7 of pixi.lock are known"),
    (document(version="6"), "version: it is '6'; versions 2 to 7"),
    ({"environments": {}}, "version: it is missing"),
    (document() | {"environments": {"test": {}}}, "environments: it has no environment default, which is the one"),
    (document() | {"environments": []}, "environments: it must be a mapping"),
    (document() | {"environments": {"default": {}}}, "environments.default.packages: it is missing"),
    (document(entry(), platform="osx-64"), "environments.default.packages: it has only osx-64"),
    (document(entry()) | {"packages": []}, f"environments.default.packages.linux-64[0]: '{A}' is not among packages"),
    (document(entry("child")), "environments.default.packages.linux-64[0]: 'child' is source code or a path"),
    (document({"conda_source": "x @ y"}, version=7), "'x @ y' is source code or a path of your machine"),
    (document({"kind": "npm"}), "packages[0]: it has none of the keys conda, pypi"),
    (document(entry(), entry(sha256="c" * 64)), f"packages[1]: '{A}' is there twice, with different hashes"),
    (document(entry(sha256=None, md5=None)), "packages[0]: it has neither sha256 nor md5"),
    (document(entry(sha256="A b")), "packages[0].sha256: 'A b' is not a sha256"),
    (document(entry(size=-1)), "packages[0].size: '-1' is not a size in bytes"),
    (document(entry(name="b")), "packages[0].name: it is 'b', but the address says 'a'"),
    (document(entry(subdir="noarch")), "packages[0].subdir: it is 'noarch', but the address says 'linux-64'"),
    (document(entry(noarch="ruby")), "packages[0].noarch: it is 'ruby'; it must be python or generic"),
    (document(entry(build_number=-1)), "packages[0].build_number: '-1' is not a build number"),
    (document(entry(depends="b")), "packages[0].depends: it must be a list"),
    (document(entry(depends=["b\n"])), "packages[0].depends[0]: it is not a match spec"),
    (document(entry(python_site_packages_path="../x")), "packages[0].python_site_packages_path: '../x' is not a path"),
    (document(entry("file:///x/linux-64/a-1.0-0.conda")), "is a file of the machine where the lock was made"),
    (
        document(entry(), version=7, platforms=[{"name": "one", "subdir": "linux-64"}])
        | {"environments": {"default": {"packages": {"one": [], "linux-64": []}}}},
        "environments.default.packages.linux-64: it is for 'linux-64', as 'one' is",
    ),
]


@pytest.mark.parametrize(("value", "message"), REJECTED)
def test_rejections(value: Any, message: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        read(value)
    assert message in str(caught.value)


def test_a_path_of_a_channel_that_the_settings_name() -> None:
    """rattler writes a path where an address starts with file://."""
    path = "/srv/a channel/linux-64/a-1.0-0.conda"
    with pytest.raises(InputInvalid, match="is source code or a path of your machine"):
        read(document(entry(path)))
    local = replace(SETTINGS, local_channels=(("file:///srv/a%20channel/", "/srv/a channel"),))
    found = read(document(entry(path)), local)
    assert found.lock
    (package,) = found.lock.packages["linux-64"]
    assert (package.channel, package.url) == ("/srv/a channel", "file:///srv/a%20channel/linux-64/a-1.0-0.conda")
