"""Image names: the table of the grammar, what is said about a bad one, and what holds for every name."""

from __future__ import annotations

import datetime
import json
import re
from contextlib import suppress
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rattler import MatchSpec

from builder.errors import InvalidImageName
from builder.names.image_name import (
    Latest,
    LockReference,
    UntilDate,
    find_close_names,
    find_spec_handle,
    parse,
    parse_specs,
    write_repository,
)
from builder.names.items import IMAGE_PLATFORMS, OPERATORS
from builder.names.match_spec import is_version, parse_match_spec
from builder.names.spec import Constraint, EnvironmentSpec, PackageItem, merge_items
from builder.settings import BuilderSettings

TODAY = datetime.date(2026, 5, 1)
SETTINGS = BuilderSettings(workers=1)


def spec_of(name: str, settings: BuilderSettings = SETTINGS) -> EnvironmentSpec:
    return parse(f"{settings.root}/{name}", "latest", settings, today=TODAY).spec


@pytest.mark.parametrize(
    ("name", "match_specs"),
    [
        ("numpy", ["numpy"]),
        ("scipy.gt.1.0", ["scipy >1.0"]),
        ("scipy.ge.1.0", ["scipy >=1.0"]),
        ("scipy.gte.1.0", ["scipy >=1.0"]),
        ("scipy.lt.1.0", ["scipy <1.0"]),
        ("scipy.le.1.0", ["scipy <=1.0"]),
        ("scipy.lte.1.0", ["scipy <=1.0"]),
        ("scipy.eq.1.0", ["scipy ==1.0"]),
        ("scipy.ne.1.0", ["scipy !=1.0"]),
        ("scipy.like.1.0", ["scipy =1.0"]),
        ("scipy.compat.1.0", ["scipy ~=1.0"]),
        ("python.ge.3.10.lt.3.13", ["python <3.13,>=3.10"]),
        ("python.lt.3.13.ge.3.10.ge.3.10", ["python <3.13,>=3.10"]),
        ("pytorch.build.cuda", ['pytorch[build="*cuda*"]']),
        ("pytorch.ge.2.build.cuda", ['pytorch >=2[build="*cuda*"]']),
        ("pytorch.build.cuda.build.py311", ['pytorch[build="*cuda*"]', 'pytorch[build="*py311*"]']),
        ("ruamel.yaml", ["ruamel.yaml"]),
        ("ruamel.yaml.gt.0.15", ["ruamel.yaml >0.15"]),
        ("x.eq.1__2.0", ["x ==1!2.0"]),
        ("x.eq.2.1--cu118", ["x ==2.1+cu118"]),
        ("bioconda__samtools", ["bioconda::samtools"]),
        ("bioconda__samtools.ge.1.20", ["bioconda::samtools >=1.20"]),
        ("bioconda__samtools/samtools", ["samtools", "bioconda::samtools"]),
        ("numpy/numpy.gt.1/numpy.lt.3", ["numpy <3,>1"]),
        ("atk-1.0/libclang-cpp20.1", ["atk-1.0", "libclang-cpp20.1"]),
        ("cuda/channel/platform.gt.1/build.eq.1.0", ["build ==1.0", "channel", "cuda", "platform >1"]),
        ("less/shell", ["bash", "coreutils", "findutils", "gawk", "grep", "less", "sed", "which"]),
    ],
)
def test_items(name: str, match_specs: list[str]) -> None:
    assert spec_of(name).match_specs() == match_specs


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("numpy", ("conda-forge",)),
        ("channel.bioconda/numpy", ("bioconda", "conda-forge")),
        ("channel.b/channel.a/numpy/channel.b", ("b", "a", "conda-forge")),
        ("channel.conda-forge/numpy", ("conda-forge",)),
        ("bioconda__samtools/aaa__x", ("conda-forge", "aaa", "bioconda")),
        ("channel.bioconda/bioconda__samtools", ("bioconda", "conda-forge")),
    ],
)
def test_channels(name: str, channels: tuple[str, ...]) -> None:
    assert spec_of(name).channels == channels


def test_platforms() -> None:
    assert (spec_of("x").platforms, spec_of("x").single) == (("linux-64",), False)
    one = spec_of("x/platform.linux-aarch64/platform.linux-aarch64")
    assert (one.platforms, one.single) == (("linux-aarch64",), True)
    two = spec_of("platform.linux-aarch64/x/platform.linux-64")
    assert (two.platforms, two.single) == (("linux-64", "linux-aarch64"), False)


def test_cuda_is_a_virtual_package() -> None:
    assert spec_of("cuda.12.4/pytorch").virtual_packages == (("__cuda", "12.4"),)
    assert spec_of("pytorch").virtual_packages == ()


@pytest.mark.parametrize(
    ("name", "item", "says", "meant"),
    [
        ("numpy.gt", "numpy.gt", "operator gt has no version", None),
        ("numpy.gt.lt.2", "numpy.gt.lt.2", "operator gt has no version", None),
        ("numpy.gt.1.lt", "numpy.gt.1.lt", "operator lt has no version", None),
        ("pytorch.build", "pytorch.build", "operator build has no build string", None),
        ("scipy/numpy.1.26", "numpy.1.26", "no package numpy.1.26", "numpy.like.1.26"),
        ("numpy.1.26.lt.2", "numpy.1.26.lt.2", "no package numpy.1.26", "numpy.like.1.26.lt.2"),
        ("zope.interface.5.0", "zope.interface.5.0", "no package", "zope.interface.like.5.0"),
        ("numpy.gtt.1", "numpy.gtt.1", "gtt is not an operator", "numpy.gt.1"),
        ("numpy.equals.1", "numpy.equals.1", "equals is not an operator", "numpy.eq.1"),
        ("ruamel.yaml.liek.0.15", "ruamel.yaml.liek.0.15", "liek is not an operator", "ruamel.yaml.like.0.15"),
        ("numpy.gt.1.ltt.3", "numpy.gt.1.ltt.3", "ltt is not an operator", "numpy.gt.1.lt.3"),
        ("numpy.gr.1.0", "numpy.gr.1.0", "gr is not an operator; the operators are gt, ge,", "numpy.gt.1.0"),
        ("numpy.gr.1.0.lt.2", "numpy.gr.1.0.lt.2", "gr is not an operator", "numpy.gt.1.0.lt.2"),
        ("numpy.ge.1.gr.3", "numpy.ge.1.gr.3", "gr is not an operator", "numpy.ge.1.gt.3"),
        ("numpy.greter.1", "numpy.greter.1", "greter is not an operator", "numpy.gt.1"),
        ("numpy.lr.1", "numpy.lr.1", "lr is not an operator", "numpy.lt.1"),
        ("numpy.l.1", "numpy.l.1", "l is not an operator", "numpy.lt.1"),
        ("numpy.lees.1", "numpy.lees.1", "lees is not an operator", "numpy.lt.1"),
        ("numpy.el.1", "numpy.el.1", "el is not an operator", "numpy.le.1"),
        ("numpy.qe.1", "numpy.qe.1", "qe is not an operator", "numpy.eq.1"),
        ("numpy.er.1", "numpy.er.1", "er is not an operator", "numpy.eq.1"),
        ("numpy.en.1", "numpy.en.1", "en is not an operator", "numpy.ne.1"),
        ("numpy.nq.1", "numpy.nq.1", "nq is not an operator", "numpy.ne.1"),
        ("numpy.lke.1.0", "numpy.lke.1.0", "lke is not an operator", "numpy.like.1.0"),
        ("numpy.lk.1.0", "numpy.lk.1.0", "lk is not an operator", "numpy.like.1.0"),
        ("numpy.gteq.1.0", "numpy.gteq.1.0", "gteq is not an operator", "numpy.gte.1.0"),
        ("x.os.1", "x.os.1", "no package x.os.1", "x.os.like.1"),
        ("numpy.=.1.0", "numpy.=.1.0", "lower-case", "numpy.like.1.0"),
        ("numpy.==.1.0", "numpy.==.1.0", "lower-case", "numpy.eq.1.0"),
        ("numpy.>=1.0", "numpy.>=1.0", "lower-case", "numpy.ge.1.0"),
        ("numpy.GT.1.0", "numpy.GT.1.0", "lower-case", "numpy.gt.1.0"),
        ("NumPy.Gr.1.0", "NumPy.Gr.1.0", "lower-case", "numpy.gt.1.0"),
        ("gt.1", "gt.1", "no package before it", None),
        ("x.eq.1__2__3", "x.eq.1__2__3", "not a version", None),
        ("x.eq.a__1", "x.eq.a__1", "not a version", None),
        ("a__b__c", "a__b__c", "once", None),
        ("x.eq.1_0-1", "x.eq.1_0-1", "not a version", None),
        ("pypi__requests.ge.2", "conda-store-dynamic/pypi__requests.ge.2", "need python", None),
        ("python/pypi__requests.ge", "pypi__requests.ge", "has no version", None),
        ("python/pypi__requests.gr.2", "pypi__requests.gr.2", "gr is not an operator", "pypi__requests.gt.2"),
        ("python/pypi__requests.build.x", "pypi__requests.build.x", "have no builds", None),
        ("python/pypi__requests.ge.2_0_x", "pypi__requests.ge.2_0_x", "PEP 440", None),
        ("platform.linux-arm64/x", "platform.linux-arm64", "unknown platform", "platform.linux-aarch64"),
        ("platform.linux-46/x", "platform.linux-46", "unknown platform", "platform.linux-64"),
        ("platform.osx-arm64/x", "platform.osx-arm64", "Linux only", None),
        ("cuda.new/x", "cuda.new", "cuda.12.4", None),
        ("cuda.12.4/cuda.11.8/x", "conda-store-dynamic/cuda.12.4/cuda.11.8/x", "11.8 and 12.4", None),
        ("shell.gt.1", "shell.gt.1", "takes no value", "shell"),
        ("channel.x", "conda-store-dynamic/channel.x", "no packages", None),
        ("", "conda-store-dynamic/", "no packages", "conda-store-dynamic/python"),
        ("numpy//scipy", "conda-store-dynamic/numpy//scipy", "empty", None),
        ("numpy/", "conda-store-dynamic/numpy/", "empty", None),
        ("NumPy", "NumPy", "lower-case", "numpy"),
        ("numpy>=1.2", "numpy>=1.2", "lower-case", "numpy.ge.1.2"),
        ("numpy=1.26.*", "numpy=1.26.*", "lower-case", "numpy.like.1.26"),
        ("numpy\n", "numpy\n", "lower-case", "numpy"),
        ("_openmp_mutex", "_openmp_mutex", "lower-case", None),
        ("../numpy", "..", "lower-case", None),
        ("spec.abc", "spec.abc", "12 to 64 hex digits", None),
        ("spec.0123456789ab/numpy", "spec.0123456789ab", "cannot have other items", None),
        ("spec.0123456789ab", "spec.0123456789ab", "no stored spec", None),
        ("/".join(f"p{number}" for number in range(100)), "conda-store-dynamic/p0/p1/p2/p3/p4/p5/p6...", "255", None),
    ],
)
def test_what_is_said_about_a_bad_name(name: str, item: str, says: str, meant: str | None) -> None:
    with pytest.raises(InvalidImageName) as caught:
        spec_of(name)
    error = caught.value
    assert error.item == item
    assert says in error.reason
    if meant:
        assert error.suggestion is not None
        assert meant in error.suggestion
    assert "\n" not in str(error)


@pytest.mark.parametrize("version", ["1.0.rc.1", "1.0.dev.2", "1.0.post.1", "1.0.ga.2", "1.0.b.3", "1.0.r.4", "1.l.2"])
def test_pieces_of_versions_are_not_taken_for_operators(version: str) -> None:
    assert spec_of(f"x.eq.{version}").match_specs() == [f"x =={version}"]


def test_a_name_outside_the_root() -> None:
    for repository in ("numpy", "conda-store-dynamics/numpy", "other/conda-store-dynamic/numpy"):
        with pytest.raises(InvalidImageName, match="under conda-store-dynamic/"):
            parse(repository, "latest", SETTINGS, today=TODAY)


def test_too_many_packages() -> None:
    with pytest.raises(InvalidImageName, match="201 packages"):
        parse_specs([f"p{number}" for number in range(201)], SETTINGS)


def test_tags() -> None:
    def reference(tag: str) -> object:
        return parse("conda-store-dynamic/numpy", tag, SETTINGS, today=TODAY).reference

    assert reference("latest") == Latest()
    assert reference("2026-01-31") == UntilDate(datetime.date(2026, 1, 31))
    assert reference("2026-05-01") == UntilDate(TODAY)
    assert reference("lock-0123456789ab") == LockReference("0123456789ab")
    assert reference("lock-" + "a" * 64) == LockReference("a" * 64)


@pytest.mark.parametrize(
    ("tag", "says"),
    [
        ("2026-02-30", "no such day"),
        ("2026-05-02", "in the future"),
        ("0000-01-01", "no such day"),
        ("2026-1-31", "a day such as 2026-01-31"),
        ("lock-0123456789a", "12 to 64 hex digits"),
        ("lock-" + "a" * 65, "12 to 64 hex digits"),
        ("lock-0123456789AB", "12 to 64 hex digits"),
        ("lock-0123456789ab\n", "12 to 64 hex digits"),
        ("latest\n", "a tag is latest"),
        ("lates", "did you mean latest"),
        ("3.11", "a tag is latest"),
        ("", "a tag is latest"),
    ],
)
def test_what_is_said_about_a_bad_tag(tag: str, says: str) -> None:
    with pytest.raises(InvalidImageName, match=says) as caught:
        parse("conda-store-dynamic/numpy", tag, SETTINGS, today=TODAY)
    assert caught.value.item == tag


def test_a_day_is_part_of_the_spec() -> None:
    request = parse("conda-store-dynamic/numpy", "2026-01-31", SETTINGS, today=TODAY)
    assert request.spec.until == datetime.date(2026, 1, 31)
    assert request.spec.key != spec_of("numpy").key


def test_a_stored_spec() -> None:
    handle = "0123456789ab"
    stored = spec_of("numpy")
    repository = f"conda-store-dynamic/spec.{handle}"
    assert find_spec_handle(repository, SETTINGS) == handle
    assert find_spec_handle("conda-store-dynamic/spec", SETTINGS) is None
    assert parse(repository, "latest", SETTINGS, today=TODAY, stored=stored).spec == stored
    dated = parse(repository, "2026-01-31", SETTINGS, today=TODAY, stored=stored).spec
    assert dated == replace(stored, until=datetime.date(2026, 1, 31))


@pytest.mark.parametrize(
    ("text", "match_spec"),
    [
        ("scipy>1.0", "scipy >1.0"),
        ("numpy.gt.2", "numpy >2"),
        ("numpy=1.26", "numpy =1.26"),
        ("numpy 1.26", "numpy ==1.26"),
        ("numpy==1.26", "numpy ==1.26"),
        ("numpy=1.26.*", "numpy =1.26"),
        ("numpy==1.26.*", "numpy =1.26"),
        ("numpy 1.26.*", "numpy =1.26"),
        ("numpy>=1.26.*", "numpy >=1.26"),
        ("numpy!=1.26.*", "numpy !=1.26.*"),
        ("numpy >= 1.2 , < 2", "numpy <2,>=1.2"),
        ("numpy~=1.2", "numpy ~=1.2"),
        ("numpy=1.26=py311_0", 'numpy ==1.26[build="py311_0"]'),
        ("numpy==1.26=py311_0", 'numpy ==1.26[build="py311_0"]'),
        ("numpy 1.26 py311_0", 'numpy ==1.26[build="py311_0"]'),
        ("numpy 1.26=py311_0", 'numpy ==1.26[build="py311_0"]'),
        ("numpy>=1.26,<2=py311_0", 'numpy <2,>=1.26[build="py311_0"]'),
        ("numpy=1.26=0", 'numpy ==1.26[build="0"]'),
        ("blas=*=mkl", 'blas[build="mkl"]'),
        ("blas[build=mkl]", 'blas[build="mkl"]'),
        ("numpy=1.26=py*", 'numpy ==1.26[build="py*"]'),
        ("pytorch * GPU*", 'pytorch[build="GPU*"]'),
        ("numpy=1.26=py311_c*_0", 'numpy ==1.26[build="py311_c*_0"]'),
        ("numpy[build='**py***311**']", 'numpy[build="*py*311*"]'),
        ("numpy[build=***]", "numpy"),
        ("numpy 1.26 *py311*", 'numpy ==1.26[build="*py311*"]'),
        ("pytorch=*=*cuda*", 'pytorch[build="*cuda*"]'),
        ("pytorch=2.*=*cuda*", 'pytorch =2[build="*cuda*"]'),
        ("numpy *", "numpy"),
        ("PyYAML>6", "pyyaml >6"),
        ("_openmp_mutex", "_openmp_mutex"),
        ("bioconda::samtools>1", "bioconda::samtools >1"),
        ("conda-forge/label/dev::numpy", "conda-forge/label/dev::numpy"),
        ("https://example.org/my/channel::numpy", "https://example.org/my/channel::numpy"),
        ("numpy[version='>=1,<2', build=*cuda*]", 'numpy <2,>=1[build="*cuda*"]'),
        ("numpy[channel=bioconda]", "bioconda::numpy"),
        ("numpy>1.2|<1", "numpy <1|>1.2"),
        ("numpy >=1,<2 | 3", "numpy <2,>=1|==3"),
        ("numpy=1.8|1.9", "numpy =1.8|==1.9"),
        ("numpy=1.8.*|1.9.*=py*", 'numpy =1.8|=1.9[build="py*"]'),
        ("numpy[version='=1.8|>2', build=*cuda*]", 'numpy =1.8|>2[build="*cuda*"]'),
        ("numpy 1|1", "numpy ==1"),
        ("numpy *|1", "numpy"),
        ("numpy>=1[version='1.1|1.2']", "numpy ==1.1,>=1|==1.2,>=1"),
    ],
)
def test_match_specs_of_the_command_line(text: str, match_spec: str) -> None:
    assert parse_specs([text], SETTINGS).match_specs() == [match_spec]


@pytest.mark.parametrize(
    "text", ["x " + ",".join(f">{n}" for n in range(60_000)), "x " + "(" * 50_000, "x" * 1001, "x=1=" + "*a" * 500]
)
def test_a_match_spec_is_short(text: str) -> None:
    """rattler takes half a minute to read as many bounds."""
    with pytest.raises(InvalidImageName, match=r"it has \d+ characters; at most 1000 are allowed") as caught:
        parse_match_spec(text)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a conda match spec"),
        ("=1.2", "not a conda match spec"),
        ("numpy>", "not an operator and a version"),
        ("numpy>1.2|", "beside | is empty"),
        ("numpy[version='1|2'] 1|3", "not a conda match spec"),
        ("numpy 1|2[version='1|3']", "two choices"),
        ("numpy (1|2),3", "parentheses"),
        ("numpy " + "|".join(map(str, range(51))), "51 alternatives; at most 50"),
        ("uvicorn[standard]>=1", "no extras in brackets"),
        ("numpy<>1", "not an operator"),
        ("numpy>1..2", "not a version"),
        ("numpy 1.2 py_0 more", "more than a name"),
        ("numpy=1.2=^py(3|4)$", "has more; write a pattern such as"),
        ("numpy=1.2=py?", "is not a build"),
        ("numpy[build='[a-z]*']", "not a conda match spec"),
        ("numpy[build='']", "is not a build"),
        ("numpy=1.2=", "not an operator and a version"),
        ("numpy[md5=abc]", "only version, build and channel"),
        ("numpy[", "not a conda match spec"),
        ("__cuda>=12", "virtual packages"),
        ("nüm", "not a package name"),
        ("../x::numpy", "not a channel"),
        ("numpy.gt", "no version"),
        ("numpy.>=.1.0", "did you mean numpy.ge.1.0"),
        ("numpy.GT.1.0", "lower case; did you mean numpy.gt.1.0"),
        ("NumPy.GR.1.0", "gr is not an operator.*did you mean numpy.gt.1.0"),
        ("channel.Bioconda", "lower case"),
    ],
)
def test_what_is_said_about_a_bad_match_spec(text: str, says: str) -> None:
    with pytest.raises(InvalidImageName, match=says):
        parse_specs([text], SETTINGS)


def test_credentials_in_a_channel_are_not_repeated() -> None:
    with pytest.raises(InvalidImageName) as caught:
        parse_specs(["https://user:secret@example.org/c::numpy"], SETTINGS)
    assert "secret" not in str(caught.value)


def test_command_line_in_any_mixture() -> None:
    spec = parse_specs(["python/pip", "scipy>1", "platform.linux-64", "a::b"], SETTINGS, channels=["file:///srv/c"])
    assert spec.match_specs() == ["pip", "python", "scipy >1", "a::b"]
    assert spec.channels == ("file:///srv/c", "conda-forge", "a")
    assert spec.single


@pytest.mark.parametrize(
    "specs",
    [
        ["_openmp_mutex"],
        ["https://example.org/c::numpy"],
        ["file:///c::lib"],
        ["Upper::numpy"],
        ["shell>1"],
        ["numpy!=1.2.*"],
        ["numpy=1.2=py_0"],
        ["numpy=1.2=py*"],
        ["numpy=1.2=*PY*"],
        ["numpy=1.2=*_0*"],
        [f"package-{number}" for number in range(120)],
    ],
)
def test_what_no_name_can_say_has_a_handle(specs: list[str]) -> None:
    spec = parse_specs(specs, SETTINGS)
    repository = write_repository(replace(spec, until=TODAY), SETTINGS)
    assert repository == f"conda-store-dynamic/spec.{spec.key[:16]}"
    assert find_spec_handle(repository, SETTINGS) == spec.key[:16]


def test_another_prefix_than_the_settings_say_has_a_handle() -> None:
    assert find_spec_handle(write_repository(replace(spec_of("numpy"), prefix="/elsewhere"), SETTINGS), SETTINGS)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("numpy", "e9b6e83189e845bbc8dc8ca474de647dfa26edeaf1fff19355089322bc3ba235"),
        ("pytorch.ge.2.build.cuda", "2e90ef6f6b590ea0d2b770dd6554b4cfba12c0da3dc60edd76b52188d4a67fdf"),
        ("pytorch.build.cuda.build.py311", "cb7ec2dd851e2a74276cd5bd3347b51b82c105e9dc4d1e9aed9a5f71002e0a06"),
    ],
)
def test_keys_of_names_stay(name: str, key: str) -> None:
    """Locks and images are stored under them, and people keep handles."""
    assert spec_of(name).key == key


def test_a_part_of_a_build_is_stored_as_it_always_was() -> None:
    contained, whole = parse_specs(["x=*=*cuda*"], SETTINGS), parse_specs(["x=*=cuda"], SETTINGS)
    assert [item["build"] for item in contained.to_json()["items"]] == ["cuda"]
    assert [item["build"] for item in whole.to_json()["items"]] == ["=cuda"]
    assert contained.key != whole.key


def test_close_names() -> None:
    known = ["numpy", "numba", "scipy", "pandas", "pytorch", "scikit-learn", *(f"filler-{n}" for n in range(3000))]
    assert find_close_names("nunpy", known)[0] == "numpy"
    assert find_close_names("torch", known) == ["pytorch"]
    assert find_close_names("scikit_learn", known) == ["scikit-learn"]
    assert find_close_names("pandsa", known) == ["pandas"]
    assert find_close_names("something-else-entirely", known) == []
    assert find_close_names("", known) == []


def one_spelling(build: str) -> str:
    return re.sub(r"\*+", "*", build)


def one_choice(groups: list[list[Constraint]]) -> tuple[tuple[Constraint, ...], ...]:
    """As match specs have it: sorted, and at least two."""
    choice = tuple(sorted({tuple(sorted(set(group))) for group in groups}))
    return choice if len(choice) > 1 else ()


packages = st.from_regex(r"[a-z][a-z0-9]{0,7}([._-][a-z][a-z0-9]{0,5}){0,2}", fullmatch=True)
versions = st.from_regex(
    r"([0-9]!)?[0-9]{1,2}([._-][a-z0-9]{1,4}){0,3}(\+[a-z0-9]{1,3}(\.[0-9])?)?", fullmatch=True
).filter(is_version)
constraints = st.builds(Constraint, st.sampled_from(sorted(set(OPERATORS.values()))), versions)
package_items = st.builds(
    PackageItem,
    packages,
    st.none() | st.sampled_from(["bioconda", "conda-forge", "a.b-c"]),
    st.lists(constraints, max_size=3).map(lambda many: tuple(sorted(set(many)))),
    st.none() | st.from_regex(r"\*?[a-zA-Z0-9]{1,6}(\*|_[a-z0-9]{1,3}|_\*)?\*?", fullmatch=True).map(one_spelling),
    st.just(()) | st.lists(st.lists(constraints, min_size=1, max_size=2), max_size=3).map(one_choice),
)
words = st.sampled_from([*OPERATORS, "build", "channel", "platform", "cuda", "shell", "spec", "1", "2.0", "numpy", "x"])
near_names = st.lists(words | packages, min_size=1, max_size=6).flatmap(
    lambda parts: st.lists(st.sampled_from([".", "/", "__", "--", "_"]), min_size=6, max_size=6).map(
        lambda separators: "".join(part + separator for part, separator in zip(parts, separators, strict=False))[:-1]
    )
)


@given(
    st.lists(package_items, min_size=1, max_size=4),
    st.lists(st.sampled_from(["bioconda", "nvidia", "r"]), max_size=2, unique=True),
    st.sets(st.sampled_from(IMAGE_PLATFORMS), max_size=2),
    st.booleans(),
)
def test_a_spec_is_read_back_from_its_name(
    items: list[PackageItem], channels: list[str], platforms: set[str], cuda: bool
) -> None:
    merged = merge_items(items)
    own = sorted({item.channel for item in merged if item.channel})
    spec = EnvironmentSpec(
        items=merged,
        channels=tuple(dict.fromkeys([*channels, "conda-forge", *own])),
        platforms=tuple(sorted(platforms)) or ("linux-64",),
        single=len(platforms) == 1,
        virtual_packages=(("__cuda", "12.4"),) if cuda else (),
    )
    repository = write_repository(spec, SETTINGS)
    if handle := find_spec_handle(repository, SETTINGS):
        # too long, a package's name that has an operator in it, or a build that is not just a part
        assert spec.key.startswith(handle)
    else:
        assert parse(repository, "latest", SETTINGS, today=TODAY).spec == spec
    assert EnvironmentSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@given(st.lists(package_items, min_size=1, max_size=5))
def test_merging_again_changes_nothing(items: list[PackageItem]) -> None:
    merged = merge_items([replace(item, name="one") for item in items])
    assert merge_items(merged) == merged
    assert merge_items(reversed(merged)) == merged


@given(st.lists(package_items, min_size=1, max_size=5))
def test_match_specs_are_read_back(items: list[PackageItem]) -> None:
    merged = merge_items(items)
    assert parse_specs([f" {text}" for text in map(PackageItem.match_spec, merged)], SETTINGS).items == merged


@given(package_items)
def test_the_solver_reads_every_match_spec(item: PackageItem) -> None:
    parsed = MatchSpec(item.match_spec(), strict=True)
    assert parsed.name is not None
    assert parsed.name.normalized == item.name


@given(st.lists(near_names, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_order_and_repeats_do_not_matter(names: list[str], random: Random) -> None:
    items = [item for name in names for item in name.split("/") if not item.startswith("channel.")]
    shuffled = items + items[:2]
    random.shuffle(shuffled)
    try:
        first = parse_specs(items, SETTINGS)
    except InvalidImageName:
        return
    assert parse_specs(shuffled, SETTINGS).key == first.key


@given(st.text() | near_names | st.text("abgt.=_-/ 1<>![]*:\n", max_size=30), st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str, tag: str) -> None:
    with suppress(InvalidImageName):
        spec_of(text)
    with suppress(InvalidImageName):
        parse("conda-store-dynamic/numpy", tag, SETTINGS, today=TODAY)
    with suppress(InvalidImageName):
        parse_specs([text], SETTINGS)
