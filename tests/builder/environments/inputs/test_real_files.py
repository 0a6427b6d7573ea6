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
            continue
        expected -= {start for start in refused if path.name.startswith(start)}
        with pytest.raises(InputInvalid, match=reason):
            read_input(path.read_bytes(), SETTINGS, file_name=path.name)
    assert expected == set()
