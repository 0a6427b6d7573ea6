"""Environment files: what is read of them, and every rejection with its message."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builder.environments.inputs.input import EnvironmentInput, InputKind, InputSettings
from builder.environments.inputs.reading import read_input
from builder.errors import InputInvalid
from builder.locks.formats import write_environment_file
from builder.names.spec import Constraint, PackageItem
from tests.support.builder.locks import LOCK

SETTINGS = InputSettings(channels=("conda-forge",), platforms=("linux-64",))
WHOLE = """
name: analysis
channels: [bioconda, conda-forge]
dependencies:
  - python=3.12
  - numpy>=2
  - nvidia::cuda-nvcc
  - pip
  - pip: ["Requests >= 2", "--index-url https://pypi.example.org/simple"]
variables: {OMP_NUM_THREADS: 4, GREETING: "hello, you"}
platforms: [linux-64, linux-aarch64]
description: |
  For the paper.
  Second line.
prefix: null
category: main
extends: team/base
"""


def read(text: str, settings: InputSettings = SETTINGS, **options: Any) -> EnvironmentInput:
    return read_input(text.encode(), settings, **options)


def dependencies(*lines: str) -> str:
    return "name: a\ndependencies:\n" + "".join(f"  - {line}\n" for line in lines)


def test_a_whole_file() -> None:
    found = read(WHOLE)
    assert (found.kind, found.name, found.category) == (InputKind.ENVIRONMENT, "analysis", "main")
    assert found.description == "For the paper.\nSecond line."
    assert found.extends == "team/base"
    assert found.lock is None
    assert found.pip == ("Requests>=2",)
    assert found.pip_options == (("--index-url", "https://pypi.example.org/simple"),)
    assert found.spec.requirements == ("requests>=2",)
    assert found.spec.indexes == ("https://pypi.example.org/simple",)
    assert found.warnings == ()
    assert found.spec.items == (
        PackageItem("numpy", constraints=(Constraint(">=", "2"),)),
        PackageItem("pip"),
        PackageItem("python", constraints=(Constraint("=", "3.12"),)),
        PackageItem("cuda-nvcc", "nvidia"),
    )
    assert found.spec.channels == ("bioconda", "conda-forge", "nvidia")
    assert found.spec.platforms == ("linux-64", "linux-aarch64")
    assert found.spec.variables == (("GREETING", "hello, you"), ("OMP_NUM_THREADS", "4"))
    assert found.document == {
        "name": "analysis",
        "prefix": None,
        "channels": ["bioconda", "conda-forge"],
        "dependencies": [
            *("python=3.12", "numpy>=2", "nvidia::cuda-nvcc", "pip"),
            {"pip": ["Requests>=2", "--index-url https://pypi.example.org/simple"]},
        ],
        "variables": {"OMP_NUM_THREADS": 4, "GREETING": "hello, you"},
        "description": "For the paper.\nSecond line.",
        "category": "main",
        "platforms": ["linux-64", "linux-aarch64"],
        "extends": "team/base",
    }


def test_what_a_file_leaves_open() -> None:
    found = read("name: a\ndependencies: []\n", replace(SETTINGS, platforms=("linux-aarch64",), prefix="/env"))
    assert found.spec.items == ()
    assert found.spec.channels == ("conda-forge",)
    assert found.spec.platforms == ("linux-aarch64",)
    assert found.spec.prefix == "/env"
    assert found.document["channels"] == []


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ("[]", ("conda-forge",)),
        ("[bioconda]", ("bioconda", "conda-forge")),
        ("[conda-forge, bioconda]", ("conda-forge", "bioconda")),
        ("[bioconda, nodefaults]", ("bioconda",)),
        ("[nodefaults, bioconda, bioconda]", ("bioconda",)),
        (
            "[defaults, nodefaults]",
            ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r"),
        ),
        ("[pkgs/main, nodefaults]", ("https://repo.anaconda.com/pkgs/main",)),
        ("['https://conda.anaconda.org/bioconda/', nodefaults]", ("bioconda",)),
        ("['https://example.org/a/b/', nodefaults]", ("https://example.org/a/b",)),
        ("[conda-forge/label/dev, nodefaults]", ("conda-forge/label/dev",)),
    ],
)
def test_channels(channels: str, expected: tuple[str, ...]) -> None:
    assert read(f"name: a\nchannels: {channels}\ndependencies: [x]\n").spec.channels == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("python=3.11.*", "python =3.11"),
        ("jupyterlab==4.*", "jupyterlab =4"),
        ("numpy=1.2", "numpy =1.2"),
        ("numpy 1.2", "numpy ==1.2"),
        ("nodejs 20.*", "nodejs =20"),
        ("pkg=1.0=build_0", 'pkg ==1.0[build="build_0"]'),
        ("conda-forge::x", "conda-forge::x"),
        ("defaults::x", "https://repo.anaconda.com/pkgs/main::x"),
        ("\"pkg[version='>=1']\"", "pkg >=1"),
        ("'numpy >=1,<2|3'", "numpy <2,>=1|==3"),
        ("Sphinx<10", "sphinx <10"),
        ("libarchive>=3.8 lgpl_*", 'libarchive >=3.8[build="lgpl_*"]'),
        ("samtools =1.24", "samtools =1.24"),
        ("jupyterlab-h5web~=11.1", "jupyterlab-h5web ~=11.1"),
        ("hdf5=1.14.3=mpi_mpich_h7f58efa_9", 'hdf5 ==1.14.3[build="mpi_mpich_h7f58efa_9"]'),
        ("tzdata=2022f", "tzdata =2022f"),
        ("r-rcolorbrewer=1.1_3", "r-rcolorbrewer =1.1_3"),
        ("numpy=1.*", "numpy =1"),
        ("numpy=1.26.*=py311*", 'numpy =1.26[build="py311*"]'),
        ("numpy * ^py3.*$", 'numpy[build="py3*"]'),
        (r"pkg[build='^.*cuda\.1.*$']", 'pkg[build="*cuda.1*"]'),
        (f"numpy =={(1 << 64) - 1}", f"numpy =={(1 << 64) - 1}"),
        ("sel(linux): gcc", "gcc"),
        ("sel(unix): gcc>1", "gcc >1"),
    ],
)
def test_specs(spec: str, expected: str) -> None:
    found = read(dependencies(spec))
    assert found.spec.match_specs() == [expected]


def test_what_condery_exports() -> None:
    found = read(write_environment_file(LOCK, "linux-64").decode())
    assert found.spec.match_specs() == sorted(
        f'{package.name} =={package.version}[build="{package.build}"]' for package in LOCK.packages["linux-64"]
    )


def test_what_other_systems_need_is_left_out() -> None:
    found = read(dependencies("a", "sel(win): b", "sel(osx): c"))
    assert found.spec.match_specs() == ["a"]
    assert found.document["dependencies"] == ["a"]


def test_cuda_is_the_machines() -> None:
    found = read('name: a\ndependencies: [x]\nvariables: {CONDA_OVERRIDE_CUDA: "12.4", B: 1}\n')
    assert found.spec.virtual_packages == (("__cuda", "12.4"),)
    assert found.spec.variables == (("B", "1"),)
    assert found.document["variables"] == {"CONDA_OVERRIDE_CUDA": "12.4", "B": 1}
    assert read('name: a\ndependencies: [x]\nvariables: {CONDA_OVERRIDE_CUDA: ""}\n').spec.virtual_packages == ()


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("name: a\ndependencies: []\nchanels: [x]\n", "chanels: unknown key, which is ignored; did you mean channels?"),
        ("name: a\ndependencies: []\n'a b': 1\n", "['a b']: unknown key"),
        (
            "name: a\ndependencies: []\nplatforms: [linux-64, osx-64, win-64]\n",
            "platforms: environments are made for Linux only; left out: osx-64, win-64",
        ),
    ],
)
def test_warnings(text: str, warning: str) -> None:
    (found,) = read(text).warnings
    assert found.startswith(warning)


def test_a_name_is_not_always_needed() -> None:
    found = read("dependencies: [x]\n", replace(SETTINGS, needs_name=False))
    assert found.name is None
    assert found.document["name"] is None


SELECTED = """
name: a
channels:
  - bioconda    # [linux]
  - msys2       # [win]
dependencies:
  - python=3.12
  - pillow >=3.1  # [osx or win]
  - one         # [linux]
  - two         # [not osx and py>=38]
  - three       # [py<38 or py2k]
  - "four"      # [unix and (x86_64 or aarch64)] and why
  - five        # [win or not (linux and py3k)]
  - six         # only where there is a shell [unix]
  - seven       # needs seven[extra]
  - eight       # [optional]
  - {sel(linux): nine}  # [osx]
  - pip         # see [1] and [2
  - pip:        # [win]
      - pywin32
  - pip:
      - uvloop  # [not win]
      - winloop # [win]
variables:
  A: 1          # [win]
  B: 2          # [linux64]
description: "# [win]"
"""


def test_comments_select() -> None:
    found = read(SELECTED)
    names = ["eight", "four", "one", "pip", "python", "seven", "six", "two"]
    assert [item.name for item in found.spec.items] == names
    assert found.spec.channels == ("bioconda", "conda-forge")
    assert found.pip == ("uvloop",)
    assert found.spec.variables == (("B", "2"),)
    assert found.description == "# [win]"
    assert found.document["channels"] == ["bioconda"]
    assert found.document["dependencies"][-1] == {"pip": ["uvloop"]}
    assert found.warnings == (
        "dependencies[9]: its comment '[optional]' is no selector, and is ignored",
        "left out by selectors in comments: channels[1], dependencies[1], dependencies[4], dependencies[6], "
        "dependencies[10], dependencies[12].pip, dependencies[13].pip[1], variables.A",
    )


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("[linux64]", "'[linux64]', is for linux-64 and not for all of linux-64, linux-aarch64, but all platforms"),
        ("[linux and py>310]", "'[linux and py>310]': py is known only if the file pins python; write for example"),
        ("[linux and wni]", "asks for 'wni', which is not known here; the names are linux, osx, win"),
        ("[linux and __import__('os')]", "asks for '__import__', which is not known here"),
        ("[linux osx]", "'osx' is not expected there; join names with and, or, not"),
        ("[(linux]", "a parenthesis is not closed"),
        ("[linux and]", "it ends too early"),
        ("[linux == 3]", "'linux' is no number; compare py with one, such as py>=310"),
        ("[py]", "'py' is no name that holds or does not"),
        ("[linux $ osx]", "'$ osx' is not understood"),
        ("[" + "(" * 11 + "linux" + ")" * 11 + "]", "it has more than 10 parentheses"),
        ("[" + "not " * 60 + "linux]", "the selector in its comment has more than 200 characters"),
    ],
)
def test_selectors_that_are_refused(comment: str, message: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        read(f"name: a\nplatforms: [linux-64, linux-aarch64]\ndependencies:\n  - x\n  - y  # {comment}\n")
    assert message in str(caught.value)
    assert caught.value.path == "dependencies[1]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dependencies: [x, y]  # [win]\n", None),
        ("dependencies:  # [win]\n  - x\n", None),
        ("dependencies: [x,  # [win]\n  y\n  ]\n", ["y"]),
        ("dependencies:\n  - x y\n    z#[win]\n", None),
        ("dependencies:\n  - python=3.10  # [win]\n  - python=3.12  # [linux]\n  - y  # [py==310]\n", ["python"]),
        ("dependencies:\n  - x\n  # - y [win]\n", ["x"]),
    ],
)
def test_where_comments_are(text: str, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(InputInvalid, match="dependencies"):
            read("name: a\n" + text)
    else:
        assert [item.name for item in read("name: a\n" + text).spec.items] == expected


REJECTED = [
    ("", "it is empty"),
    (" \n\n", "it is empty"),
    ("# only a comment\n", "it is empty; an environment file has a name"),
    ("- a\n", "it must be a mapping with name, channels and dependencies, but it is a list"),
    ("just text\n", "it must be a mapping with name, channels and dependencies, but it is text"),
    ("dependencies: []\n", "name: it is missing; give the environment a name"),
    ("nmae: a\ndependencies: []\n", "nmae: unknown key; did you mean name?"),
    ("name: a\ndependancies: [x]\n", "dependancies: unknown key; did you mean dependencies?"),
    ("name: null\ndependencies: []\n", "name: it is null; give the environment a name"),
    ("name: ''\ndependencies: []\n", "name: it is empty"),
    ("name: 12\ndependencies: []\n", "name: it must be text, but it is a number; put it in quotation marks"),
    ("name: [a]\ndependencies: []\n", "name: it must be text, but it is a list"),
    ("name: a/b\ndependencies: []\n", "name: 'a/b' cannot be the name of an environment, which has letters"),
    ("name: a b\ndependencies: []\n", "name: 'a b' cannot be the name"),
    ("name: ümlaut\ndependencies: []\n", "name: 'ümlaut' cannot be the name"),
    (f"name: {'a' * 201}\ndependencies: []\n", "name: it has 201 characters; at most 200"),
    ("name: a\nchannels: null\ndependencies: []\n", "channels: it is null; list channels"),
    ("name: a\nchannels: conda-forge\ndependencies: []\n", "channels: it must be a list, but it is text"),
    ("name: a\nchannels: [a, null]\ndependencies: []\n", "channels[1]: it must be text, but it is null"),
    ("name: a\nchannels: [1]\ndependencies: []\n", "channels[0]: it must be text, but it is a number"),
    ("name: a\nchannels: ['../x']\ndependencies: []\n", "channels[0]: '../x': it is neither a channel name nor"),
    ("name: a\nchannels: ['ftp://x/y']\ndependencies: []\n", "channels[0]: 'ftp://x/y': its scheme is not one of"),
    ("name: a\nchannels: ['https://u:pw@x.org/y']\ndependencies: []\n", "channels[0]: https://***@x.org/y has cred"),
    (
        "name: a\nchannels: ['https://x.org/t/tk-1/y']\ndependencies: []\n",
        "channels[0]: https://x.org/t/***/y has cred",
    ),
    (
        "name: a\nchannels: ['https://[']\ndependencies: []\n",
        "channels[0]: 'https://[' is neither a channel's name",
    ),
    ("name: a\nchannels: [nodefaults]\ndependencies: []\n", "channels: it names no channel but nodefaults"),
    ("name: a\nchannels: [" + "x," * 101 + "]\ndependencies: []\n", "channels: it has 101 entries; at most 100"),
    ("name: a\n", "dependencies: it is missing"),
    ("name: a\ndependencies: null\n", "dependencies: it is null; list packages"),
    ("name: a\ndependencies: {x: 1}\n", "dependencies: it must be a list, but it is a mapping"),
    (dependencies("a", "b", "numpy>>2"), "dependencies[2]: 'numpy>>2' is not a match spec: '>>2' is not an operator"),
    (dependencies("numpy=1..2"), "dependencies[0]: 'numpy=1..2' is not a match spec: '1..2' is not a version"),
    (dependencies(r"numpy ^1\.2.*$"), "versions cannot be regular expressions, which the solver does not have"),
    (dependencies("numpy[version='^(a+)+$']"), "versions cannot be regular expressions, which the solver"),
    (dependencies("numpy 1.*.3"), "'1.*.3' has a * that is not at its end, which the solver does not have"),
    (dependencies("numpy * ^py(3|4)+$"), "only ^, $ and .* between letters and digits are known, and '^py(3|4)+$'"),
    (dependencies("num*"), "a package is asked for by its whole name, without * and regular expressions"),
    (dependencies("^num.*$"), "a package is asked for by its whole name, without * and regular expressions"),
    (dependencies("numpy " + "9" * 44), "has more than 64 bits"),
    (dependencies(f"numpy >=1.{1 << 64}a"), "has more than 64 bits"),
    (dependencies("uvicorn[standard]>1"), "is not a match spec: conda packages have no extras in brackets"),
    (dependencies("__cuda"), "is not a match spec: virtual packages cannot be requested"),
    (dependencies("null"), "dependencies[0]: it must be text, but it is null"),
    (dependencies("3.12"), "dependencies[0]: it must be text, but it is a number"),
    (dependencies("https://u:p@x.org/y::z"), "is not a match spec: a channel's URL must not hold credentials"),
    (dependencies("npm: [left-pad]"), "dependencies[0]: 'npm' is not known here; a mapping is pip with a list"),
    (dependencies("sel(bsd): x"), "dependencies[0]: 'sel(bsd)' is not known here"),
    (dependencies("{pip: [], npm: []}"), "dependencies[0]: a mapping among the dependencies has one key"),
    (dependencies("pip: requests"), "dependencies[0].pip: it must be a list, but it is text"),
    (dependencies("pip: [1]"), "dependencies[0].pip[0]: it must be text, but it is a number"),
    (dependencies("pip: ['-e .']"), "dependencies[0].pip[0]: '-e .' installs from source code"),
    (dependencies("pip: ['--editable=./x']"), "pip[0]: '--editable=./x' installs from source code"),
    (dependencies("pip: [a, '-r requirements.txt']"), "pip[1]: the option '-r' of pip is not supported; only --index"),
    (dependencies("pip: ['--pre']"), "pip[0]: the option '--pre' of pip is not supported"),
    (dependencies("pip: ['--index-url']"), "pip[0]: --index-url takes one value"),
    (dependencies("pip: ['--index-url ftp://x']"), "pip[0]: 'ftp://x' is not an http:// or https:// address"),
    (dependencies("pip: ['--extra-index-url https://u:p@x.org/']"), "pip[0]: 'https://***@x.org/' has credentials"),
    (dependencies("pip: ['--trusted-host a/b']"), "pip[0]: 'a/b' is not a host"),
    (dependencies("pip: ['git+https://github.com/a/b']"), "pip[0]: 'git+https://github.com/a/b' is a repository of"),
    (dependencies("pip: ['a @ git+ssh://git@github.com/a/b']"), "is a repository of source code"),
    (dependencies("pip: [./a]"), "pip[0]: './a' is a path of your machine"),
    (dependencies("pip: ['.[all]']"), "pip[0]: '.[all]' is a path of your machine"),
    (dependencies("pip: ['https://x.org/a.whl']"), "pip[0]: 'https://x.org/a.whl' has no name; write NAME @ URL"),
    (dependencies("pip: ['a @ file:///etc/x.whl']"), "is not an http:// or https:// address"),
    (dependencies("pip: ['requests=2']"), "pip[0]: 'requests=2' is not a requirement such as 'requests>=2'"),
    ("name: a\ndependencies: []\nvariables: [A=1]\n", "variables: it must be a mapping"),
    ("name: a\ndependencies: []\nvariables: {A: 1.5}\n", "variables.A: its value must be text or a whole number"),
    ("name: a\ndependencies: []\nvariables: {A: true}\n", "variables.A: its value must be text or a whole number"),
    ("name: a\ndependencies: []\nvariables: {A: null}\n", "variables.A: its value must be text or a whole number"),
    ("name: a\ndependencies: []\nvariables: {A: [1]}\n", "variables.A: its value must be text or a whole number"),
    ("name: a\ndependencies: []\nvariables: {1A: x}\n", "variables.1A: a variable's name has letters"),
    ("name: a\ndependencies: []\nvariables: {'A B': x}\n", "variables['A B']: a variable's name has letters"),
    ("name: a\ndependencies: []\nvariables: {PATH: /x}\n", "variables.PATH: activation sets this variable itself"),
    ('name: a\ndependencies: []\nvariables: {A: "x\\0y"}\n', "variables.A: its value has a NUL"),
    (f"name: a\ndependencies: []\nvariables: {{A: {'x' * 40_000}}}\n", "variables.A: its value has 40000 characters"),
    ("name: a\ndependencies: []\nvariables: {CONDA_OVERRIDE_CUDA: new}\n", "CONDA_OVERRIDE_CUDA: it must be a version"),
    ("name: a\ndependencies: []\nprefix: [x]\n", "prefix: it must be text, but it is a list"),
    ("name: a\ndependencies: []\ndescription: {}\n", "description: it must be text, but it is a mapping"),
    ("name: a\ndependencies: []\ncategory: 1\n", "category: it must be text, but it is a number"),
    ("name: a\ndependencies: []\nextends: base\n", "extends: 'base' is not an environment, which is written name"),
    ("name: a\ndependencies: []\nplatforms: []\n", "platforms: it has none, but environments are made for Linux only"),
    ("name: a\ndependencies: []\nplatforms: linux-64\n", "platforms: it must be a list"),
    (
        "name: a\ndependencies: []\nplatforms: [linux64]\n",
        "platforms[0]: 'linux64' is not a platform; the platforms are",
    ),
    ("name: a\ndependencies: []\nplatforms: [noarch]\n", "platforms[0]: 'noarch' is not a platform"),
    (
        "name: a\ndependencies: []\nplatforms: [osx-64]\n",
        "platforms: it has only osx-64, but environments are made for",
    ),
]


@pytest.mark.parametrize(("text", "message"), REJECTED)
def test_rejections(text: str, message: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        read(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(caught.value.path)
    assert len(str(caught.value)) < 700


def test_null_that_means_nothing() -> None:
    found = read(
        "name: a\nprefix: null\ndescription: null\nvariables: null\nplatforms: null\ndependencies: [x, pip: ]\n"
    )
    assert found.warnings == ()
    assert found.description is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: \xff\n", "it is not UTF-8 text (byte 6)"),
        (b"name: a\n" + b"#" * (1 << 20), "it has 1048584 bytes; at most 1048576 are allowed"),
        (b"package:\n" + b"#" * (16 << 20), "bytes; at most 16777216 are allowed"),
    ],
)
def test_bytes(content: bytes, message: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        read_input(content, SETTINGS)
    assert message in str(caught.value)


def test_it_says_which_kind_was_expected() -> None:
    with pytest.raises(InputInvalid, match="it is an environment file; send it as one"):
        read("name: a\ndependencies: []\n", is_lock=True)
    assert read("name: a\ndependencies: []\n", is_lock=False).name == "a"


def test_extra_indexes_come_before_the_main_one() -> None:
    def read_indexes(*options: str) -> tuple[str, ...]:
        lines = "".join(f"    - {option}\n" for option in options)
        return read(f"name: a\ndependencies:\n  - python\n  - pip:\n    - x\n{lines}").spec.indexes

    extra, main = "--extra-index-url https://e.org/simple", "--index-url https://m.org/simple"
    assert read_indexes() == ()
    assert read_indexes(main, extra) == ("https://e.org/simple", "https://m.org/simple")
    # a name that the extra one has is never taken from the public one
    assert read_indexes(extra) == ("https://e.org/simple", "https://pypi.org/simple")
