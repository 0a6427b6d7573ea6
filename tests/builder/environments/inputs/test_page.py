"""The examples and numbers of docs/environment-files.md."""

from __future__ import annotations

import re

import pytest

from builder.environments.inputs import (
    environment_file,
    pip_part,
    pixi_manifest,
    reading,
    variables,
    yaml_text,
)
from builder.environments.inputs.input import InputKind, InputSettings
from builder.environments.inputs.locks import locked
from builder.environments.inputs.reading import read_input
from builder.errors import InputInvalid
from tests.support.rooms import ROOT

PAGE = (ROOT / "docs/environment-files.md").read_text()
SETTINGS = InputSettings(platforms=("linux-64",))


def block(language: str) -> bytes:
    [found] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found).encode()


def test_the_environment_file() -> None:
    found = read_input(block("yaml"), SETTINGS)
    assert (found.kind, found.name) == (InputKind.ENVIRONMENT, "analysis")
    assert len(found.spec.items) == 7
    assert found.pip == ("requests>=2",)
    assert found.spec.virtual_packages == (("__cuda", "12.4"),)
    assert found.warnings == ()


def test_the_manifest() -> None:
    found = read_input(block("toml"), SETTINGS)
    assert (found.kind, found.name) == (InputKind.PIXI_MANIFEST, "analysis")
    assert len(found.spec.items) == 3


def test_the_message() -> None:
    [message] = re.findall(r"^    (dependencies.*)$", PAGE, re.MULTILINE)
    with pytest.raises(InputInvalid) as caught:
        read_input(b"name: a\ndependencies: [a, b, 'numpy>>2']\n", SETTINGS)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "row",
    [
        f"| an environment file | {reading.LARGEST >> 20} MiB |",
        f"| a manifest | {pixi_manifest.LARGEST >> 10} KiB |",
        f"| a lock | {reading.LARGEST_LOCK >> 20} MiB, {locked.MOST_PACKAGES:,} packages |",
        f"| nesting | {yaml_text.DEPTH} levels ({pixi_manifest.DEPTH} of a manifest) |",
        f"| values | {yaml_text.MOST_VALUES:,} |",
        f"| dependencies, requirements | {environment_file.MOST_DEPENDENCIES:,} each |",
        f"| dependencies, requirements | {pip_part.MOST:,} each |",
        f"| variables | {variables.MOST}; {variables.LONGEST >> 10} Ki characters each, ",
        f"each, {variables.TOGETHER >> 10} Ki together |",
        f"| time | {reading.SECONDS:.0f} seconds in a worker process",
    ],
)
def test_the_limits(row: str) -> None:
    assert row in PAGE
