"""pixi.toml and pyproject.toml: the default environment, and every rejection with its message."""

from __future__ import annotations

import pytest

from builder.environments.inputs.input import EnvironmentInput, InputKind, InputSettings
from builder.environments.inputs.reading import read_input
from builder.errors import InputInvalid

SETTINGS = InputSettings(platforms=("linux-64",))
WHOLE = """
[workspace]
name = "analysis"
description = "For the paper"
channels = ["conda-forge", { channel = "nvidia", priority = 1 }]
platforms = ["linux-64", "osx-arm64"]

[tasks]
test = "pytest"

[dependencies]
python = ">=3.12,<3.13"
numpy = "*"
samtools = { version = "1.20.*", channel = "bioconda" }
pytorch = { version = ">=2", build = "*cuda*" }

[host-dependencies]
pip = "24.0"

[pypi-dependencies]
flask = { version = ">=3", extras = ["async"] }
exact = "1.0"
any = "*"

[activation.env]
OMP_NUM_THREADS = "4"

[system-requirements]
cuda = "12"

[target.linux-64.dependencies]
gcc = ">=13"

[target.osx-arm64.dependencies]
clang = "*"

[target.unix.activation.env]
SYSTEM = "unix"

[feature.extra.dependencies]
scipy = "*"

[feature.test.dependencies]
pytest = "*"

[environments]
default = ["extra"]
test = { features = ["test"] }
"""


def read(text: str, name: str | None = None) -> EnvironmentInput:
    return read_input(text.encode(), SETTINGS, file_name=name)


def test_a_whole_manifest() -> None:
    found = read(WHOLE)
    assert (found.kind, found.name, found.description) == (InputKind.PIXI_MANIFEST, "analysis", "For the paper")
    assert found.spec.match_specs() == [
        *("gcc >=13", "numpy", "pip ==24.0", "python <3.13,>=3.12", 'pytorch >=2[build="*cuda*"]', "scipy"),
        "bioconda::samtools =1.20",
    ]
    assert found.spec.channels == ("nvidia", "conda-forge", "bioconda")
    assert found.spec.platforms == ("linux-64",)
    assert found.spec.virtual_packages == (("__cuda", "12"),)
    assert found.spec.variables == (("OMP_NUM_THREADS", "4"), ("SYSTEM", "unix"))
    assert found.pip == ("flask[async]>=3", "exact==1.0", "any")
    assert found.warnings == (
        "workspace.platforms: environments are made for Linux only; left out: osx-arm64",
        "environments: default is built; left out: 'test'",
    )
    assert found.document["dependencies"][-1] == {"pip": list(found.pip)}


def test_a_pyproject() -> None:
    text = """
[project]
name = "analysis"
dependencies = ["requests>=2"]

[tool.ruff]
line-length = 100

[tool.pixi.workspace]
channels = ["conda-forge"]
platforms = ["linux-64"]

[tool.pixi.dependencies]
python = "3.12.*"
"""
    for name in (None, "pyproject.toml"):
        found = read(text, name)
        assert found.name == "analysis"
        assert found.spec.match_specs() == ["python =3.12"]
        assert found.pip == ("requests>=2",)


def manifest(rest: str, platforms: str = '["linux-64"]') -> str:
    return f'[workspace]\nchannels = ["conda-forge"]\nplatforms = {platforms}\n{rest}'


def test_an_environment_without_the_default_feature() -> None:
    text = '[dependencies]\na = "*"\n[feature.x.dependencies]\nb = "*"\n[environments]\n'
    found = read(manifest(text + 'default = { features = ["x"], no-default-feature = true }\n'))
    assert found.spec.match_specs() == ["b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[workspace]\n= 1", "it is not TOML: "),
        ("[workspace]\n", "workspace.channels: it is missing"),
        (
            '[project]\nname = "x"\n[tool.ruff]\n',
            "tool.pixi: it is missing: this pyproject.toml describes no environment",
        ),
        ("[workspace]\nchannels = []\n", "workspace.channels: it is empty"),
        ('[workspace]\nchannels = ["https://u:p@x/y"]\n', "workspace.channels[0]: https://***@x/y has credentials"),
        (manifest("", '["osx-64"]'), "workspace.platforms: it has only osx-64"),
        (manifest('[dependencies]\na = { path = "." }'), "dependencies.a.path: it is built from source code"),
        (manifest('[dependencies]\na = { git = "https://x" }'), "dependencies.a.git: it is built from source code"),
        (manifest('[dependencies]\na = { md5 = "x" }'), "dependencies.a.md5: it is not supported"),
        (manifest('[dependencies]\na = ">>1"'), "dependencies.a: 'a >>1' is not a match spec"),
        (manifest("[dependencies]\na = 1"), "dependencies.a: it must be a mapping"),
        (manifest('[dependencies]\n"a::b" = "*"'), "dependencies['a::b']: 'a::b' is not the name of a package"),
        (manifest('[pypi-dependencies]\na = { path = "." }'), "pypi-dependencies.a.path: it is source code or a path"),
        (manifest('[pypi-dependencies]\na = { git = "x" }'), "pypi-dependencies.a.git: it is source code or a path"),
        (
            manifest('[activation]\nscripts = ["x.sh"]'),
            "activation.scripts: scripts of your machine cannot be run here",
        ),
        (manifest('[activation.env]\nPATH = "x"'), "activation.env.PATH: activation sets this variable itself"),
        (manifest('[environments]\ndefault = ["x"]'), "environments.default[0]: there is no feature 'x'"),
        (manifest('[workspace.x]\n[system-requirements]\ncuda = "new"'), "CONDA_OVERRIDE_CUDA: it must be a version"),
        ("[workspace]\nx = " + "[" * 100_000, "it is nested deeper than 12 levels"),
        ("[workspace]\n" + "a." * 100_000 + "a = 1", "it is nested deeper than 12 levels"),
        ("[workspace]\n#" + "x" * (300 << 10), "characters; at most 262144 are allowed of a manifest"),
        ("[workspace]\n" + "x" * (250 << 10), "it is not TOML"),
    ],
)
def test_rejections(text: str, message: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        read(text)
    assert message in str(caught.value)


def test_what_only_some_platforms_need() -> None:
    text = manifest('[target.linux-64.dependencies]\na = "*"', '["linux-64", "linux-aarch64"]')
    both = InputSettings(platforms=("linux-64", "linux-aarch64"))
    with pytest.raises(InputInvalid, match=r"target.linux-64: it is for linux-64 alone.*leave one of"):
        read_input(text.encode(), both)
    assert read(text).spec.match_specs() == ["a"]
