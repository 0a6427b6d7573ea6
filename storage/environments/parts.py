"""What is stored of named environments, one part each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from storage.blobs.store import BlobStore
from storage.environments.building import Building
from storage.environments.builds import EnvironmentBuilds
from storage.environments.environments import Environments
from storage.environments.logs import Logs
from storage.environments.names import EnvironmentNames
from storage.environments.on_disk import BuildsOnDisk
from storage.environments.settings import EnvironmentSettings
from storage.environments.transfer.importing import EnvironmentImports
from storage.environments.upkeep import EnvironmentUpkeep
from storage.environments.watching.watched import WatchedFiles
from storage.events.changes import Changes
from storage.quotas.limits import Limits
from storage.quotas.room import Room


@dataclass(frozen=True)
class EnvironmentStore:
    """All parts together. Code that needs one part takes only that."""

    environments: Environments
    builds: EnvironmentBuilds
    building: Building
    settings: EnvironmentSettings
    logs: Logs
    imports: EnvironmentImports
    watched: WatchedFiles
    upkeep: EnvironmentUpkeep
    on_disk: BuildsOnDisk

    @classmethod
    def of(cls, blobs: BlobStore, changes: Changes, room: Room, limits: Limits | None = None) -> Self:
        database = blobs.database
        environments = Environments(database, changes, EnvironmentNames(database))
        return cls(
            environments,
            EnvironmentBuilds(database),
            Building(database, changes, room, limits),
            EnvironmentSettings(database, changes),
            Logs(blobs),
            EnvironmentImports(database, environments, room, limits),
            WatchedFiles(database),
            EnvironmentUpkeep(database),
            BuildsOnDisk(database),
        )
