"""Locks for tests: a few packages that look like conda-forge's."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from builder.locks.lock import WHEEL_PREFIX, Lock, LockedPackage
from builder.names.spec import Constraint, EnvironmentSpec, PackageItem

CHANNEL = "https://conda.example.org/conda-forge"


def package(
    name: str, version: str = "1.0", build: str = "h0_0", subdir: str = "linux-64", **fields: Any
) -> LockedPackage:
    """A record with hashes made from its name, unless `fields` override them."""
    file_name = f"{name}-{version}-{build}.conda"
    values: dict[str, Any] = {
        "build_number": 0,
        "channel": "conda-forge",
        "url": f"{CHANNEL}/{subdir}/{file_name}",
        "file_name": file_name,
        "size": 1000,
        "sha256": hashlib.sha256(file_name.encode()).hexdigest(),
        "md5": hashlib.md5(file_name.encode()).hexdigest(),
        "timestamp": 1_700_000_000_000,
    }
    return LockedPackage(name=name, version=version, build=build, subdir=subdir, **(values | fields))


SPEC = EnvironmentSpec(
    items=(PackageItem("numpy"), PackageItem("python", constraints=(Constraint("=", "3.12"),))),
    channels=("conda-forge",),
)

LOCK = Lock(
    SPEC,
    {
        "linux-64": (
            package("ca-certificates", "2026.1.1", "hbcca054_0", license="ISC"),
            package("tzdata", "2026a", "h0_0", subdir="noarch", noarch="generic", timestamp=1_700_000_100_000),
            package(
                "python", "3.12.8", "h1_1_cpython", depends=("__glibc >=2.17,<3.0.a0", "ca-certificates", "tzdata")
            ),
            package(
                "numpy",
                "2.1.0",
                "py312h1_0",
                depends=("python >=3.12,<3.13.0a0", "python_abi 3.12.* *_cp312", "python >=3.9", "libcxx >=16"),
                timestamp=1_700_000_200_000,
            ),
            package("click", "8.1.7", "pyh1_0", subdir="noarch", noarch="python", depends=("python >=3.7",)),
        )
    },
)

INDEX = "https://pypi.org/simple"
FILES = "https://files.pythonhosted.org/packages/ab/cd"


def wheel(name: str, version: str, tags: str, *depends: str, **fields: Any) -> LockedPackage:
    file_name = f"{name.replace('-', '_')}-{version}-{tags}.whl"
    values: dict[str, Any] = {
        "channel": INDEX,
        "url": f"{FILES}/{file_name}",
        "size": 12_345,
        "timestamp": 1_700_000_000_000,
        "requires_python": ">=3.9",
    }
    return LockedPackage(
        name=f"{WHEEL_PREFIX}{name}",
        version=version,
        build=tags,
        build_number=0,
        subdir="noarch",
        file_name=file_name,
        sha256=f"{len(name):064x}",
        md5=None,
        depends=depends,
        **values | fields,
    )


WHEELS = (
    wheel(
        "charset-normalizer", "3.4.0", "cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64", requires_python=None
    ),
    wheel(
        "requests",
        "2.32.3",
        "py3-none-any",
        "charset-normalizer<4,>=2",
        "PySocks!=1.5.7,>=1.5.6; extra == 'socks'",
        "tomli; python_version < '3.11'",
        license="Apache-2.0",
    ),
)
ASKED = dataclasses.replace(SPEC, requirements=("requests>=2",))
MIXED = Lock(ASKED, {"linux-64": (*LOCK.packages["linux-64"], *WHEELS)})
