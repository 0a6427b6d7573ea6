"""Rules about PyPI packages: those of policies with `pypi:`, and those of environments."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from builder.environments.inputs.input import InputSettings
from builder.environments.settings import SettingValues
from builder.errors import PolicyRefusal
from builder.locks.lock import Lock
from builder.names.spec import EnvironmentSpec
from builder.policy.policies import Policies
from builder.policy.policy import check_lock, check_spec
from builder.policy.settings import PolicySettings
from builder.settings import BuilderSettings
from storage.environments.settings import SettingLayer
from tests.support.builder.locks import package

ALIAS = "https://conda.example.org"


class Documents:
    async def find(self, namespace: str) -> str | None:
        return None


class Layers:
    def __init__(self, **document: object) -> None:
        self.text = json.dumps(document)

    async def list_layers(self, namespace: str, environment: str) -> Sequence[SettingLayer]:
        return [SettingLayer("team", "", self.text)]


def lock(name: str, version: str) -> Lock:
    wheel = package(f"pypi:{name}", version, "py3-none-any", channel="https://pypi.org/simple")
    return Lock(EnvironmentSpec((), (), requirements=(name,)), {"linux-64": (wheel,)})


async def test_requirements_of_settings_are_rules() -> None:
    layers = Layers(
        pypi_denied_packages=["Requests_X<2.31", "evil"],
        pypi_required_packages=["tool>=2"],
        denied_packages=["xz 5.6.0"],
    )
    policies = Policies(PolicySettings(), ALIAS, Documents(), None, layers)
    policy = await policies.find("team", "science")
    with pytest.raises(PolicyRefusal, match="pypi:evil is denied by the settings of team"):
        check_spec(policy, EnvironmentSpec((), (), requirements=("evil>=1",)))
    check_spec(policy, EnvironmentSpec((), (), requirements=("requests-x",)))
    with pytest.raises(PolicyRefusal, match=r"pypi:requests-x-2\.30-.* is denied by the settings of team"):
        check_lock(policy, lock("requests-x", "2.30"), 2e9)
    with pytest.raises(PolicyRefusal, match=r"lacks pypi:tool.*add the PyPI package tool>=2"):
        check_lock(policy, lock("requests-x", "2.31"), 2e9)
    check_lock(policy, lock("tool", "2.0"), 2e9)


def test_requirements_that_are_added() -> None:
    inputs = InputSettings.of(BuilderSettings())
    values = SettingValues(pypi_default_packages=("pandas",), pypi_included_packages=("Tool_x>=1", "other"))
    nothing, asked = EnvironmentSpec((), ()), EnvironmentSpec((), (), requirements=("tool-x==3",))
    assert values.complete(nothing, inputs).requirements == ("other", "pandas", "tool-x>=1")
    assert values.complete(asked, inputs).requirements == ("other", "tool-x==3")
    assert SettingValues().complete(asked, inputs) == asked
