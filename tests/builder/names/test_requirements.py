"""Packages of PyPI in image names and on the command line."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import pytest
from packaging.requirements import InvalidRequirement

from builder.errors import InvalidImageName
from builder.names.image_name import parse, parse_specs, write_repository
from builder.names.requirement import canonicalize, merge_requirements
from builder.names.spec import EnvironmentSpec


@dataclass(frozen=True)
class Settings:
    root: str = "conda-store-dynamic"
    channels: tuple[str, ...] = ("conda-forge",)
    platforms: tuple[str, ...] = ("linux-64",)
    shell_packages: tuple[str, ...] = ()
    prefix: str = "/opt/conda"


def read(name: str) -> EnvironmentSpec:
    return parse(f"conda-store-dynamic/{name}", "latest", Settings(), today=datetime.date(2026, 11, 1)).spec


@pytest.mark.parametrize(
    ("item", "requirement"),
    [
        ("pypi__requests", "requests"),
        ("pypi__requests.ge.2", "requests>=2"),
        ("pypi__requests.ge.2.31.lt.3", "requests<3,>=2.31"),
        ("pypi__requests.like.2.31", "requests==2.31.*"),
        ("pypi__requests.eq.2.31.0", "requests==2.31.0"),
        ("pypi__requests.compat.2.31", "requests~=2.31"),
        ("pypi__requests.ne.2.31", "requests!=2.31"),
        ("pypi__zope.interface.gt.5", "zope-interface>5"),
        ("pypi__zope_interface", "zope-interface"),
        ("pypi__torch.eq.2.1--cu118", "torch==2.1+cu118"),
        ("pypi__x.eq.1__2.0", "x==1!2.0"),
    ],
)
def test_items(item: str, requirement: str) -> None:
    spec = read(f"python/{item}")
    assert spec.requirements == (requirement,)
    assert read(write_repository(spec, Settings()).removeprefix("conda-store-dynamic/")) == spec
    assert parse_specs(["python", f"pypi::{requirement}"], Settings()) == spec


def test_order_and_repeats_do_not_matter() -> None:
    spec = read("pypi__b.ge.1/python/pypi__a/pypi__b.lt.3")
    assert spec == read("python/pypi__a/pypi__b.lt.3/pypi__b.ge.1/pypi__b.ge.1")
    assert spec.requirements == ("a", "b<3,>=1")
    assert spec.list_wishes() == ["python", "pypi::a", "pypi::b<3,>=1"]
    assert write_repository(spec, Settings()) == "conda-store-dynamic/python/pypi__a/pypi__b.lt.3.ge.1"


@pytest.mark.parametrize("requirement", ["requests[socks]>=2", 'x; python_version < "3.13"', "x @ https://e.org/x.whl"])
def test_what_no_name_can_say_has_a_handle(requirement: str) -> None:
    spec = parse_specs(["python", f"PyPI::{requirement}"], Settings())
    assert spec.requirements == (canonicalize(requirement),)
    assert write_repository(spec, Settings()).startswith("conda-store-dynamic/spec.")


def test_requirements_of_one_distribution_are_merged_under_one_marker() -> None:
    merged = merge_requirements(["B[Y]>=1", "b[x]<3", 'b==2; python_version < "3"', "a", "A"])
    assert merged == ("a", "b[x,y]<3,>=1", 'b==2; python_version < "3"')
    assert merge_requirements(reversed(merged)) == merged


@pytest.mark.parametrize("text", ["", "requests>=", "-r x", "a b", "requests=2", "../x"])
def test_what_is_no_requirement(text: str) -> None:
    with pytest.raises(InvalidRequirement):
        canonicalize(text)
    with pytest.raises(InvalidImageName, match="PEP 508"):
        parse_specs([f"pypi::{text}"], Settings())
