"""Which wheels run where, and which pythons have none."""

from __future__ import annotations

import pytest
from packaging.tags import Tag

from builder.errors import PackageRefused, RequirementRefused
from builder.pypi.page import JSON, read_page
from builder.pypi.platform import WheelPlatform, check_wheels
from tests.support.builder.locks import package, wheel

PYTHON = package("python", "3.12.3", "h1_0_cpython")


@pytest.mark.parametrize(
    ("platform", "glibc", "target", "runs", "does_not"),
    [
        ("linux-64", "2.28", "x86_64-manylinux_2_28", "manylinux_2_28_x86_64", "manylinux_2_29_x86_64"),
        ("linux-64", "2.30", "x86_64-manylinux_2_28", "manylinux1_x86_64", "manylinux_2_30_x86_64"),
        ("linux-64", "2.99", "x86_64-manylinux_2_40", "manylinux2014_x86_64", "manylinux_2_17_aarch64"),
        ("linux-aarch64", "2.17", "aarch64-manylinux_2_17", "manylinux2014_aarch64", "manylinux1_aarch64"),
    ],
)
def test_tags(platform: str, glibc: str, target: str, runs: str, does_not: str) -> None:
    found = WheelPlatform.of(platform, [PYTHON], glibc, "app")
    assert found.target == target
    assert Tag("cp312", "cp312", runs) in found.ranks
    assert Tag("cp312", "cp312", does_not) not in found.ranks
    assert found.ranks[Tag("cp312", "cp312", runs)] < found.ranks[Tag("cp38", "abi3", runs)]
    assert found.ranks[Tag("cp38", "abi3", runs)] < found.ranks[Tag("py3", "none", "any")]


def test_platforms_and_machines_without_wheels() -> None:
    with pytest.raises(RequirementRefused, match="not for linux-ppc64le"):
        WheelPlatform.of("linux-ppc64le", [PYTHON], "2.28", "app")
    with pytest.raises(RequirementRefused, match="take a newer base image"):
        WheelPlatform.of("linux-64", [PYTHON], "2.12", "app")


def test_wheels_of_a_sent_lock_have_to_run_in_its_environment() -> None:
    fits = [
        wheel("a", "1", "py3-none-any"),
        wheel("b", "1", "cp312-cp312-manylinux_2_17_x86_64"),
        wheel("c", "1", "cp38-abi3-manylinux2014_x86_64", requires_python=None),
    ]
    check_wheels("linux-64", [PYTHON, *fits], "2.28")
    check_wheels("linux-ppc64le", [package("tzdata")], "2.28")
    for tags, fields, told in (
        ("cp311-cp311-manylinux_2_17_x86_64", {}, "does not run with python 3.12.3 on linux-64"),
        ("cp312-cp312-manylinux_2_34_x86_64", {}, "with glibc 2.28"),
        ("py2-none-any", {}, "does not run"),
        ("py3-none-any", {"requires_python": ">=3.13"}, "requires python >=3.13"),
    ):
        with pytest.raises(PackageRefused, match=told):
            check_wheels("linux-64", [PYTHON, *fits, wheel("d", "1", tags, **fields)], "2.28")
    with pytest.raises(RequirementRefused, match="no python in the environment"):
        check_wheels("linux-64", fits, "2.28")


def test_html_says_what_json_does() -> None:
    sha256 = "a" * 64
    text = f"""<html><head><base href="https://files.example.org/x/"></head><body>
      <a href="app-1.0-py3-none-any.whl#sha256={sha256}" data-requires-python="&gt;=3.8" data-yanked="broken"
         data-core-metadata="sha256={"b" * 64}">app</a>
      <a href="../app-2.0.tar.gz">app</a><a href="">nothing</a></body></html>"""
    page = read_page("https://i.example.org/simple", "https://i.example.org/simple/app/", "text/html", text.encode())
    wheel, source = page.files
    assert wheel.url == "https://files.example.org/x/app-1.0-py3-none-any.whl"
    assert (wheel.sha256, wheel.requires_python, wheel.yanked, wheel.metadata) == (sha256, ">=3.8", "broken", "b" * 64)
    assert (source.url, source.sha256, source.metadata) == ("https://files.example.org/app-2.0.tar.gz", "", None)
    assert page.unusable == 1
    assert read_page("https://i.org", "https://i.org/app/", JSON, b'{"files": []}').files == ()
