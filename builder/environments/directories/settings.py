"""Where environments are on disk, and how long: settings that `registry.settings` reads."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from builder.base.prefix_path import find_prefix_problem
from storage.section import Section, Size


class DirectorySettings(Section):
    """Builds of environments as directories. Times in seconds, sizes in bytes."""

    environments_directory: Path | None = Field(
        None,
        description="Directory below which every build of an environment is installed as well, for conda activate, "
        "JupyterHub and plain python; an absolute path, the shorter the better. It should be on the file system of the "
        "data directory: files are hard links then, and copies otherwise. When unset, nothing is installed.",
    )
    environments_grace: float = Field(
        86400,
        ge=0,
        description="Seconds for which a directory is kept after another build has become the current one, for "
        "programs that still run from it.",
    )
    packages_limit: Size = Field(
        20 * 10**9,
        description="Maximum size of the cached unpacked packages, without the files that environments on disk have "
        "too; 0 is no limit.",
    )

    @field_validator("environments_directory")
    @classmethod
    def _is_a_place(cls, path: Path | None) -> Path | None:
        if path is not None and (problem := find_prefix_problem(str(path))):
            raise ValueError(problem)
        return path
