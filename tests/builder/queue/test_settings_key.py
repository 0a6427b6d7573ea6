"""What a remembered failure depends on: a server that is started with other settings tries again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuildFailed
from builder.names.image_name import parse_specs
from builder.queue.job import Job
from builder.queue.settings_key import _OF_NO_BUILD, make_settings_key
from builder.settings import BuilderSettings
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service

OTHERS: dict[str, Any] = {
    "root": "other",
    "channels": ("other",),
    "allowed_channels": ("bioconda",),
    "channel_alias": "https://conda.example.org",
    "platforms": ("linux-aarch64",),
    "base": "scratch",
    "insecure_registries": ("127.0.0.1:5000",),
    "prefix": "/opt/other",
    "glibc": "2.28",
    "user": 1000,
    "refuse_scripts": True,
    "shell_packages": ("bash",),
    "pypi_indexes": ("https://own.example.org/simple",),
    "allowed_indexes": ("https://other.example.org/*",),
    "allowed_bases": ("scratch",),
}
"""Other values than the usual ones; a number is changed by one."""
NAME = "conda-store-dynamic/modern"


def test_every_setting_counts_but_those_that_no_build_depends_on() -> None:
    usual = BuilderSettings()
    for name in BuilderSettings.model_fields:
        if name == "credentials":
            continue
        value = OTHERS[name] if name in OTHERS else getattr(usual, name) + 1
        changed = make_settings_key(usual.model_copy(update={name: value}))
        assert (changed == make_settings_key(usual)) == (name in _OF_NO_BUILD), name


def test_logins_count_by_their_content(tmp_path: Path) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    keys = {make_settings_key(BuilderSettings(credentials=one))}
    for secret in ("a", "b"):
        one.write_text(json.dumps({"example.org": {"BearerToken": secret}}))
        keys.add(make_settings_key(BuilderSettings(credentials=one)))
    assert len(keys) == 3
    other.write_bytes(one.read_bytes())
    assert make_settings_key(BuilderSettings(credentials=other)) in keys


def test_a_job_is_read_again_with_its_key() -> None:
    spec = BuilderSettings()
    forms: list[dict[str, Any]] = [{}, {"policy": "p"}, {"logins": "l"}, {"settings": "s"}]
    for fields in [*forms, {"policy": "p", "settings": "s"}]:
        job = Job("image", parse_specs(["tzdata"], spec), **fields)
        assert Job.from_json(json.loads(json.dumps(job.to_json()))).key == job.key


@pytest.mark.parametrize("mended", [{"glibc": "2.40"}, {"base": "host", "glibc": None}])
async def test_a_failure_is_forgotten_with_its_base(tmp_path: Path, mended: dict[str, Any]) -> None:
    channel = await make_channel(tmp_path / "channel", [Package("modern", depends=["__glibc >=2.30"])])
    settings: dict[str, Any] = {"base": "scratch", "glibc": "2.28", "failure_memory": 3600}
    for _ in range(2):
        async with open_service(tmp_path / "data", channel, **settings) as service:
            with pytest.raises(BuildFailed, match="glibc"):
                await (await service.demand.image(NAME, "latest")).wait(60)
    async with open_service(tmp_path / "data", channel, **{**settings, **mended}) as service:
        assert await (await service.demand.image(NAME, "latest")).wait(60)
