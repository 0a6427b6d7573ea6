"""The builder's settings: data that is read once by `registry.settings` and passed in."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ConfigDict, Field, field_validator

from builder.base.prefix_path import find_prefix_problem
from builder.channels.channel import check_folder, check_form
from builder.channels.index_policy import PYPI, check_index, check_index_pattern
from builder.channels.patterns import check_pattern
from builder.platforms import oci_platform
from storage.oci import MIRROR_ROOT, REPOSITORY_PART
from storage.section import Section, Size

if TYPE_CHECKING:
    from builder.channels.patterns import Others
    from builder.channels.policy import ChannelPolicy


class BuilderSettings(Section):
    """How names become images. Times in seconds, sizes in bytes."""

    model_config = ConfigDict(allow_inf_nan=False)

    root: str = Field("conda-store-dynamic", description="First part of the name of every on-demand repository.")
    channels: tuple[str, ...] = Field(
        ("conda-forge",),
        description="Channels that are searched by default, in order of priority: names, URLs, file:// or oci:// "
        "addresses.",
    )
    allowed_channels: tuple[str, ...] = Field(
        (),
        description="Channels that image names may add to `channels`: names or URLs, in which * matches anything; * "
        "alone allows every channel at a public address. When empty, a server that only its own machine "
        "can reach allows every channel at a public address, and any other server allows none.",
    )
    channel_alias: str = Field(
        "https://conda.anaconda.org", description="URL under which a channel that is given by name alone is found."
    )
    pypi_indexes: tuple[str, ...] = Field(
        (PYPI,),
        min_length=1,
        description="Indexes of PyPI packages that are asked by default: the first that has a package's name is the "
        "only one that its wheels come from.",
    )
    allowed_indexes: tuple[str, ...] = Field(
        (),
        description="Indexes that environments may name instead of `pypi_indexes`: addresses in which * matches "
        "anything; * alone allows every index at a public address. When empty, none.",
    )
    pypi_seconds: float = Field(120, description="Maximum time for solving the PyPI packages of one platform.")
    pypi_index_seconds: float = Field(
        30, description="Seconds without a byte after which an index of PyPI packages counts as unreachable."
    )
    pypi_page_size: Size = Field(64 << 20, description="Maximum size of what an index says of one PyPI package.")
    pypi_memory: Size = Field(2 << 30, description="Maximum memory of each process that solves PyPI packages.")
    credentials: Path | None = Field(
        None,
        description="File with credentials for channels and registries, in the format of rattler's credentials.json.",
    )
    platforms: tuple[str, ...] = Field(
        ("linux-64",), min_length=1, description="Conda platforms that an image index holds."
    )
    base: str = Field(
        "host",
        description="Base image: host, scratch, a registry reference, oci-layout:PATH[:TAG] or "
        "docker-archive:PATH[:TAG].",
    )
    allowed_bases: tuple[str, ...] = Field(
        (),
        description="Base images, written as for base, that the settings of namespaces and environments may choose "
        "(base_image).",
    )
    insecure_registries: tuple[str, ...] = Field(
        (),
        description="Registries (host or host:port) that are reached by plain http, as registries on this machine "
        "always are.",
    )
    prefix: str = Field("/opt/conda", description="Directory of the conda environment in the image.")
    glibc: str | None = Field(
        None,
        description="Version of the virtual package __glibc; when unset, that of the base, or 2.28 if the base has "
        "none.",
    )
    user: int | None = Field(
        None,
        description="Numeric id of the user and group that the container runs as, with a writable home; when unset, "
        "the base's user, or root.",
    )
    refuse_scripts: bool = Field(
        False,
        description="Whether packages with link scripts are refused; otherwise the scripts are skipped and reported.",
    )
    shell_packages: tuple[str, ...] = Field(
        ("bash", "coreutils", "findutils", "grep", "sed", "gawk", "less", "which"),
        description="Packages that the item `shell` stands for.",
    )
    fresh_for: float = Field(
        3600, description="Seconds for which `latest` is answered with its last lock before it is solved again."
    )
    stale_for: float = Field(
        3600,
        description="Seconds after `fresh_for` for which `latest` is still answered with the old lock while it is "
        "solved again.",
    )
    failure_memory: float = Field(
        60, description="Seconds for which a failed build is answered with its reason and not tried again."
    )
    transient_failure_memory: float = Field(
        10,
        description="Seconds like `failure_memory`, for failures that may pass by themselves, as of a download.",
    )
    channel_seconds: float = Field(120, description="Maximum time for reading the indexes of channels.")
    solve_seconds: float = Field(120, description="Maximum time for one solve.")
    quick_solve_seconds: float = Field(
        3,
        description="Seconds for the first try of a solve, if no other solve is running or waiting; then it "
        "starts again in a second process, which has low priority.",
    )
    long_solves: int = Field(1, description="Number of long solves that run at the same time.")
    solve_memory: Size = Field(4 << 30, description="Maximum memory of each solver process.")
    repodata_refresh: float = Field(
        900, description="Seconds between background refreshes of the repodata in use; 0 turns them off."
    )
    repodata_size: Size = Field(2 << 30, description="Maximum size of one channel index after decompression.")
    repodata_disk: Size = Field(16 << 30, description="Maximum size on disk of the indexes of all channels.")
    repodata_channels: int = Field(100, description="Number of channels whose index is kept in memory and refreshed.")
    search_refresh: float = Field(
        3600,
        description="Seconds after which a search for packages lets a channel's list of them be read again.",
    )
    downloads: int = Field(8, description="Number of archives that are downloaded at the same time.")
    download_seconds: float = Field(60, description="Seconds without a byte after which a download is resumed.")
    download_least: Size = Field(
        100_000,
        description="Bytes that a download must receive in each `download_seconds`; a slower one is given up.",
    )
    build_download_seconds: float = Field(3600, description="Maximum time for the downloads of one build.")
    concurrent_builds: int = Field(
        8, description="Number of builds that make layers at the same time; more wait for their turn."
    )
    build_layers_seconds: float = Field(3600, description="Maximum time for making the layers of one build.")
    builds_per_caller: int = Field(
        100,
        description="Maximum number of running and waiting builds of one caller: somebody who is signed in, or else "
        "an address (an IPv6 /64 network counts as one). Requests for more are answered 429.",
    )
    builds_at_most: int = Field(500, description="Maximum number of running and waiting builds in all.")
    anonymous_builds_at_most: int = Field(
        250,
        description="Maximum number of running and waiting builds of all callers together that are not signed in.",
    )
    builds_per_minute: int = Field(
        600,
        description="Maximum number of builds that are begun for one caller within a minute; 0 is no limit.",
    )
    workers: int = Field(
        default_factory=lambda: os.cpu_count() or 2,
        description="Number of processes that turn packages into fragments. There are up to as many more for tasks "
        "that last over 2 seconds, up to twice as many of lower priority for strangers' tasks of 64 MiB of packages "
        "and more, and one for whoever is signed in.",
    )
    worker_memory: Size = Field(
        512 << 20, description="Maximum memory of each worker process; a package that needs more is refused."
    )
    concurrent_archives: int = Field(1, description="Number of archive.tar.gz files that are made at the same time.")
    archive_seconds: float = Field(1800, description="Maximum time for making one archive.tar.gz.")
    max_expanded: Size = Field(64 << 30, description="Maximum size of one package after decompression.")
    max_ratio: float = Field(500, description="Maximum ratio of a package's decompressed size to its compressed size.")
    max_paths: int = Field(300_000, description="Maximum number of files, links and directories in one package.")

    @field_validator("root")
    @classmethod
    def _is_a_part_of_names(cls, root: str) -> str:
        if not REPOSITORY_PART.fullmatch(root) or root == MIRROR_ROOT:
            raise ValueError(
                f"must be one part of a repository name: a-z and 0-9, joined by '.', '_', '-'; not {MIRROR_ROOT}"
            )
        return root

    @field_validator("base")
    @classmethod
    def _is_a_base(cls, base: str) -> str:
        # what parses references of registries takes long to import, and the usual base is none
        if base not in ("host", "scratch") and not base.startswith(("oci-layout:", "docker-archive:")):
            from builder.base.opening import check_reference

            check_reference(base)
        return base

    @field_validator("allowed_bases")
    @classmethod
    def _are_bases(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(cls._is_a_base, value))

    @field_validator("glibc")
    @classmethod
    def _is_a_version(cls, version: str | None) -> str | None:
        if version is not None and not re.fullmatch(r"[0-9]+(\.[0-9]+)+", version):
            raise ValueError("must be a version such as 2.28")
        return version

    @field_validator(
        *("long_solves", "solve_memory", "repodata_size", "repodata_disk", "repodata_channels", "downloads"),
        *("concurrent_builds", "builds_per_caller", "builds_at_most", "anonymous_builds_at_most", "workers"),
        *("worker_memory", "concurrent_archives", "max_expanded", "max_ratio", "max_paths"),
        *("pypi_page_size", "pypi_memory"),
    )
    @classmethod
    def _is_at_least_one(cls, value: float) -> float:
        if value < 1:
            raise ValueError("must be 1 or more")
        return value

    @field_validator(
        *("fresh_for", "stale_for", "failure_memory", "transient_failure_memory", "channel_seconds", "solve_seconds"),
        *(
            "quick_solve_seconds",
            "repodata_refresh",
            "search_refresh",
            "download_seconds",
            "download_least",
            "build_download_seconds",
        ),
        *("build_layers_seconds", "archive_seconds", "user", "builds_per_minute"),
        *("pypi_seconds", "pypi_index_seconds"),
    )
    @classmethod
    def _is_not_negative(cls, value: float | None) -> float | None:
        if value is not None and value < 0:
            raise ValueError("must be 0 or more")
        return value

    @field_validator("platforms")
    @classmethod
    def _are_platforms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            oci_platform(each)
        return value

    @field_validator("channels", "allowed_channels")
    @classmethod
    def _are_no_folders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            check_folder(each)
        return value

    @field_validator("channels")
    @classmethod
    def _are_channels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check_form, value))

    @field_validator("allowed_channels")
    @classmethod
    def _are_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check_pattern, value))

    @field_validator("pypi_indexes")
    @classmethod
    def _are_indexes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check_index, value))

    @field_validator("allowed_indexes")
    @classmethod
    def _are_patterns_of_indexes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check_index_pattern, value))

    @field_validator("prefix")
    @classmethod
    def _check_prefix(cls, prefix: str) -> str:
        if reason := find_prefix_problem(prefix):
            raise ValueError(reason)
        return prefix

    def make_channel_policy(self, others: Others) -> ChannelPolicy:
        """Which channels and indexes may be read. `others` says which besides those that are named here."""
        # commands that read settings alone should not load what knows of locks
        from builder.channels.index_policy import IndexPolicy
        from builder.channels.policy import ChannelPolicy

        indexes = IndexPolicy.of(self.pypi_indexes, self.allowed_indexes, others)
        return ChannelPolicy.of(self.channels, self.channel_alias, self.allowed_channels, others, indexes)
