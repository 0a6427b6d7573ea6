"""Files as people write them, where they are present: each is read, or refused for the right reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.environments.inputs.input import InputSettings
from builder.environments.inputs.reading import read_input
from builder.errors import InputInvalid

REAL = Path(os.environ.get("CONDERY_TEST_DATA", Path(__file__).parents[5] / "shared" / "data")) / "lockfiles"
SETTINGS = InputSettings(needs_name=False)

REFUSED = {
    "environment-yml": {
        "AXGKl__be_black": r"dependencies\[1\].pip\[3\]: '-e git\+https.*installs from source code",
        "Cantera__cantera-papers": r"dependencies\[14\]: 'uvicorn\[standard\].*no extras in brackets",
        "DestinE-Climate-DT__AQUA__environment.yml": r"pip\[0\]: '-e .\[all\]' installs from source code",
        "MODFLOW-ORG__modflow6": r"pip\[0\]: 'git\+https.* is a repository of source code",
        "mamba-org__quetz": r"pip\[0\]: 'git\+https.* is a repository of source code",
        "pangeo-data__pangeo-stacks__pangeo-notebook": r"pip\[1\]: 'git\+https.* is a repository of source code",
        "pydata__xarray__doc__environment_template": r"dependencies\[1\]: '\{\{ local-.* is not a match spec",
    },
    "conda-lock": {
        "basnijholt__unidep__tests__simple_monorepo": r"metadata.platforms: it has only osx-64, osx-arm64",
        "conda-forge__conda-forge-repodata-patches-feedstock": r"dependencies: it is missing",
        "conda-incubator__conda-lockfiles__tests__data__invalid-lockfiles__conda-lock-v1-invalid-metadata-type": (
            r"metadata: it must be a mapping of names to values, but it is text"
        ),
        "conda-incubator__conda-lockfiles__tests__data__invalid-lockfiles__conda-lock-v1-missing-metadata": (
            r"metadata: it is missing"
        ),
        "conda-incubator__conda-lockfiles__tests__data__invalid-lockfiles__conda-lock-v1-missing-package": (
            r"package: it is missing"
        ),
    },
    "explicit": {
        "Franck-Dumetz__ORFeome__conda-osx-64": r"line 2: it has only osx-64",
        "conda-incubator__conda-lock__example__pangeo__conda-osx-64": r"line 1: it has only osx-64",
        "conda__rattler__test-data__explicit-envs__ros-noetic": r"line 5: it has neither sha256 nor md5",
        "conda__rattler__test-data__python__explicit-env-osx-64": r"line 2: it has only osx-64",
        "conda__rattler__test-data__python__explicit-env-osx-arm64": r"line 2: it has only osx-arm64",
        "conda__rattler__test-data__python__explicit-env-win-64": r"line 2: it has only win-64",
        "jupyterlab__jupyterlab-desktop__env_installer__conda-osx-arm64": r"line 2: it has only osx-arm64",
        "mamba-org__rattler__test-data__explicit-envs__ros-noetic": r"line 5: it has neither sha256 nor md5",
    },
    "pixi": {
        "2lian__Motion-Stack": r"linux-64\[\d+\]: '.' is source code or a path of your machine",
        "Quantco__conda-deny__tests__test_ignored_source_package": r"'my-partial-pkg.* is source code or a path",
        "conda-incubator__conda-lockfiles__tests__data__pixi__pixi": r"packages: it has only noarch",
        "conda__rattler__test-data__conda-lock__forward-compatible": r"version: it is '1000'; versions 2 to 7",
        "conda__rattler__test-data__conda-lock__v5__similar": r"packages: it has only win-64",
        "conda__rattler__test-data__conda-lock__v6__derived-channel": r"packages: it has only win-64",
        "conda__rattler__test-data__conda-lock__v6__multiple-source": r"'my-package-linux' is source code or a path",
        "conda__rattler__test-data__conda-lock__v6__pixi-build-git-rev": r"'pixi-rev-package' is source code or a path",
        "conda__rattler__test-data__conda-lock__v6__pixi-build-git-tag": r"'pixi-tag-package' is source code or a path",
        "conda__rattler__test-data__conda-lock__v6__pixi-build-url": r"'pixi-url-package' is source code or a path",
        "conda__rattler__test-data__conda-lock__v7__conda-path": r"'minimal-project.* is source code or a path",
        "conda__rattler__test-data__conda-lock__v7__derived-channel": r"packages: it has only win-64",
        "conda__rattler__test-data__conda-lock__v7__partial-source": r"'my-partial-pkg.* is source code or a path",
        "conda__rattler__test-data__conda-lock__v7__pixi-build-git": r"'pixi-rev-package.* is source code or a path",
    },
}
"""By the beginning of a file's name: why it is refused. All others are read."""


@pytest.mark.parametrize("kind", REFUSED)
def test_every_file_is_read_or_refused_for_the_right_reason(kind: str) -> None:
    if not (REAL / kind).is_dir():
        pytest.skip(f"the real files of {kind} are not here (CONDERY_TEST_DATA)")
    refused = REFUSED[kind]
    expected = set(refused)
    for path in sorted((REAL / kind).iterdir()):
        reason = next((pattern for start, pattern in refused.items() if path.name.startswith(start)), None)
        if reason is None:
            found = read_input(path.read_bytes(), SETTINGS, file_name=path.name)
            assert found.lock or found.spec.items, path.name
            if path.name.startswith("conda__constructor__dev"):
                # pillow  # [osx or win]
                assert "pillow" not in {item.name for item in found.spec.items}
            continue
        expected -= {start for start in refused if path.name.startswith(start)}
        with pytest.raises(InputInvalid, match=reason):
            read_input(path.read_bytes(), SETTINGS, file_name=path.name)
    assert expected == set()
