"""Builds in match specs mean what conda's tools mean by them; `.build.` in an image's name is a part of the build."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rattler import BuildString, MatchSpec, PackageRecord

from builder.errors import Unsatisfiable
from builder.names.match_spec import parse_match_spec
from builder.names.spec import EnvironmentSpec
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service, spec_of

BUILDS = (
    "0", "1", "10", "100", "h1_0", "py_0", "py_10", "py311_0", "py311_cpu_0", "py311_cuda_0", "py311_cuda_01",
    "mkl", "mkl_debug", "not_mkl", "GPU_1", "gpu_1", "GPU", "nogpu_0", "cuda12.4_py", "cuda12x4_py", "a+b.c_d", "a.b",
)  # fmt: skip
RECORDS = {build: PackageRecord("x", "1.0", BuildString(build), 0, "linux-64") for build in BUILDS}

parts = st.sampled_from(
    ["*", "*", "**", "0", "1", "_", "py", "py311", "_c", "cuda", "mkl", "debug", "GPU", "gpu", ".", "a", "+b"]
)
patterns = st.sampled_from(BUILDS) | st.lists(parts, min_size=1, max_size=5).map("".join)
FORMS = (
    "x=1.0={}",
    "x>=1.0,<2={}",
    "x==1.0={}",
    "x 1.0 {}",
    "x=*={}",
    "x * {}",
    "x[build='{}']",
    "x[version='1.0', build={}]",
)


def matched(spec: MatchSpec) -> set[str]:
    return {build for build, record in RECORDS.items() if record.matches(spec)}


@given(patterns, st.sampled_from(FORMS))
def test_the_builds_taken_are_those_that_rattler_takes(pattern: str, form: str) -> None:
    text = form.format(pattern)
    item = parse_match_spec(text)
    # rattler's globs know ** as a whole only
    expected = matched(MatchSpec(form.format(item.build or "*"), strict=False))
    assert matched(MatchSpec(item.match_spec(), strict=True)) == expected
    if "**" not in pattern:
        assert expected == matched(MatchSpec(text, strict=False))
    assert parse_match_spec(item.match_spec()) == item


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("0", {"0"}),
        ("mkl", {"mkl"}),
        ("mkl*", {"mkl", "mkl_debug"}),
        ("GPU", {"GPU"}),
        # rattler's globs take either case, conda's do not; an image's name could not ask for GPU otherwise
        ("GPU*", {"GPU_1", "GPU", "gpu_1"}),
        ("py311_c*_0", {"py311_cpu_0", "py311_cuda_0"}),
        ("*_0", {"h1_0", "py_0", "py311_0", "py311_cpu_0", "py311_cuda_0", "nogpu_0"}),
        ("*cuda12.4*", {"cuda12.4_py"}),
        ("*", set(BUILDS)),
    ],
)
def test_a_build_is_equal_or_a_glob(pattern: str, taken: set[str]) -> None:
    assert matched(MatchSpec(parse_match_spec(f"x=1.0={pattern}").match_spec())) == taken


async def test_the_solver_takes_the_build_that_was_asked_for(tmp_path: Path) -> None:
    builds = ("0", "10", "mkl", "mkl_debug", "GPU_1", "py311_cpu_0", "py311_cpu_01")
    channel = await make_channel(tmp_path / "channel", [Package("x", build=build) for build in builds])
    async with open_service(tmp_path / "data", channel) as service:

        async def build_of(spec: EnvironmentSpec) -> str:
            [package] = (await service.lock(spec)).packages["linux-64"]
            return package.build

        for asked, taken in {
            "x=1.0=0": "0",
            "x=*=mkl": "mkl",
            "x=*=mkl_d*": "mkl_debug",
            "x=*=GPU*": "GPU_1",
            "x=*=py311_c*_0": "py311_cpu_0",
            f"{channel}::x=1.0=10": "10",
            "x.build.debug": "mkl_debug",
        }.items():
            assert await build_of(spec_of(service, asked)) == taken
        # of two builds that are asked for, both have to match
        assert await build_of(spec_of(service, "x=*=*py311*", "x=*=*_01")) == "py311_cpu_01"
        with pytest.raises(Unsatisfiable, match=r"no build of x in .* is 'kl\*'; available: py311_cpu_01"):
            await service.lock(spec_of(service, "x=*=kl*"))
        with pytest.raises(Unsatisfiable, match=r"no build of x in .* contains 'cuda'"):
            await service.lock(spec_of(service, "x.build.cuda"))
