"""The builder's settings: data that is read once by `registry.settings` and passed in."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from builder.base.prefix_path import prefix_problem
from builder.channels.policy import checked_pattern

_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")


class BuilderSettings(BaseModel):
    """How names become images. Times in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    root: str = Field("conda-store-dynamic", description="first part of every on-demand repository name")
    channels: tuple[str, ...] = Field(
        ("conda-forge",),
        description="channels searched by default: names, URLs, file:// or oci:// addresses, in order of priority",
    )
    allowed_channels: tuple[str, ...] = Field(
        (),
        description="channels that names may have besides `channels`: names or URLs, in which * stands for anything; "
        "* alone is any at a public address. When empty, a server that only its own machine reaches takes any at a "
        "public address, every other server none",
    )
    channel_alias: str = Field("https://conda.anaconda.org", description="where a channel named without a URL is found")
    credentials: Path | None = Field(
        None, description="file with channel and registry credentials, in the form of rattler's credentials.json"
    )
    platforms: tuple[str, ...] = Field(("linux-64",), description="conda platforms that an image index holds")
    base: str = Field(
        "host",
        description="host, scratch, a registry reference, oci-layout:PATH[:TAG] or docker-archive:PATH[:TAG]",
    )
    insecure_registries: tuple[str, ...] = Field(
        (), description="registries (host or host:port) that are spoken to by plain http, as this machine's own are"
    )
    prefix: str = Field("/opt/conda", description="where the environment lies in the image")
    glibc: str | None = Field(
        None, description="version of the virtual package __glibc; taken from the base when unset, else 2.28"
    )
    user: int | None = Field(
        None, description="numeric user the container runs as, with a writable home; root when unset"
    )
    refuse_scripts: bool = Field(
        False, description="refuse packages with link scripts instead of reporting them as skipped"
    )
    shell_packages: tuple[str, ...] = Field(
        ("bash", "coreutils", "findutils", "grep", "sed", "gawk", "less", "which"),
        description="packages that the item `shell` stands for",
    )
    fresh_for: float = Field(
        3600, description="seconds for which `latest` answers with the last lock before it is solved again"
    )
    stale_for: float = Field(
        3600,
        description="seconds beyond `fresh_for` for which `latest` still answers with the old lock while it is solved",
    )
    failure_memory: float = Field(60, description="seconds for which a failed build is answered from memory")
    transient_failure_memory: float = Field(10, description="the same for failures that may pass by themselves")
    channel_seconds: float = Field(120, description="longest time that reading the indexes of channels may take")
    solve_seconds: float = Field(120, description="longest time one solve may take")
    quick_solve_seconds: float = Field(
        3, description="a solve that takes longer begins again in a second process of the lowest priority"
    )
    long_solves: int = Field(1, description="such solves that run at a time")
    solve_memory: int = Field(4 << 30, description="most memory of each solver process")
    repodata_refresh: float = Field(
        900, description="seconds between background refreshes of repodata in use; 0 turns them off"
    )
    repodata_size: int = Field(2 << 30, description="most bytes that one index of a channel may expand to")
    repodata_disk: int = Field(16 << 30, description="most bytes that the indexes of all channels take on disk")
    repodata_channels: int = Field(100, description="channels whose index is kept in memory and refreshed")
    downloads: int = Field(8, description="archives downloaded at a time")
    download_seconds: float = Field(60, description="seconds without a byte after which a download is resumed")
    download_least: int = Field(
        100_000, description="bytes that a download has to bring in `download_seconds`; one that is slower is given up"
    )
    build_download_seconds: float = Field(3600, description="longest time the downloads of one build may take")
    concurrent_builds: int = Field(8, description="builds that make layers at a time; more wait for their turn")
    build_layers_seconds: float = Field(3600, description="longest time the making of one build's layers may take")
    builds_per_caller: int = Field(
        100, description="builds under way for one address (or IPv6 network of 64 bits); who wants more gets 429"
    )
    builds_at_most: int = Field(500, description="builds under way in all, those that wait for their turn included")
    workers: int = Field(default_factory=lambda: os.cpu_count() or 2, description="processes that transcode packages")
    worker_memory: int = Field(
        512 << 20, description="most memory of each of them; a package that takes more is refused"
    )
    concurrent_archives: int = Field(1, description="files archive.tar.gz that are made at a time")
    archive_seconds: float = Field(1800, description="longest time the making of one archive.tar.gz may take")
    max_expanded: int = Field(64 << 30, description="most bytes a package may expand to")
    max_ratio: float = Field(500, description="most times a package may grow when expanded")
    max_paths: int = Field(300_000, description="most files, links and directories a package may have")

    @field_validator("root")
    @classmethod
    def _is_a_part_of_names(cls, root: str) -> str:
        if not _PART.fullmatch(root) or root == "mirror":
            raise ValueError("must be one part of a repository name: a-z and 0-9, joined by '.', '_', '-'; not mirror")
        return root

    @field_validator("glibc")
    @classmethod
    def _is_a_version(cls, version: str | None) -> str | None:
        if version is not None and not re.fullmatch(r"[0-9]+(\.[0-9]+)+", version):
            raise ValueError("must be a version such as 2.28")
        return version

    @field_validator(
        *("long_solves", "solve_memory", "repodata_size", "repodata_disk", "repodata_channels", "downloads"),
        *("concurrent_builds", "builds_per_caller", "builds_at_most", "workers", "worker_memory"),
        *("concurrent_archives", "max_expanded", "max_ratio", "max_paths"),
    )
    @classmethod
    def _is_at_least_one(cls, value: float) -> float:
        if value < 1:
            raise ValueError("must be 1 or more")
        return value

    @field_validator(
        *("fresh_for", "stale_for", "failure_memory", "transient_failure_memory", "channel_seconds", "solve_seconds"),
        *("quick_solve_seconds", "repodata_refresh", "download_seconds", "download_least", "build_download_seconds"),
        *("build_layers_seconds", "archive_seconds", "user"),
    )
    @classmethod
    def _is_not_negative(cls, value: float | None) -> float | None:
        if value is not None and value < 0:
            raise ValueError("must be 0 or more")
        return value

    @field_validator("allowed_channels")
    @classmethod
    def _are_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(checked_pattern, value))

    @field_validator("prefix")
    @classmethod
    def _usable_prefix(cls, prefix: str) -> str:
        if reason := prefix_problem(prefix):
            raise ValueError(reason)
        return prefix
