"""What a build would make that an earlier one of the same environment has: then there is nothing to be done.

Looking for it reads a few rows. Whatever stands in the way is left to the build itself, which says what is wrong.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from builder.build import Builder
from builder.environments.request import BuildRequest
from builder.environments.wanted import Wanted, write_completed_key
from builder.names.spec import EnvironmentSpec
from builder.policy.admission import Admission
from builder.solve.resolution import is_fresh
from storage.environments.parts import EnvironmentStore
from storage.environments.vocabulary import Cause, EnvironmentBuild, Repetition
from storage.errors import ConderyError


@dataclass(frozen=True)
class Repetitions:
    builder: Builder
    store: EnvironmentStore
    wanted: Wanted

    async def find(self, build: EnvironmentBuild, request: BuildRequest) -> Repetition | None:
        """What `build` would have, if an earlier build of its environment has it and the rules of now allow it."""
        if build.cause in (Cause.REBUILD, Cause.IMPORT) or request.pip:
            return None
        try:
            return await self._find(build, request)
        except ConderyError:
            # the build meets it too, and is where people read of it
            return None

    async def _find(self, build: EnvironmentBuild, request: BuildRequest) -> Repetition | None:
        spec = await self.wanted.find_spec(request, build.namespace, build.name)
        admission = self.builder.admission.of(build.namespace, build.name)
        await self.builder.bases.look(spec.platforms, spec.base)
        lock_key = await self._find_lock(request, spec, admission)
        image_key = None if lock_key is None else self.builder.image_key(lock_key, spec.platforms, spec.base)
        if lock_key is None or image_key is None:
            return None
        found = await self.store.builds.find_repeated(build.environment, lock_key, image_key)
        if found is not None:
            await admission.check_stored(lock_key)
        return found

    async def _find_lock(self, request: BuildRequest, spec: EnvironmentSpec, admission: Admission) -> str | None:
        """The lock that was sent, or to which the spec was solved a short while ago."""
        locks = self.builder.catalog.locks
        if request.lock_key is not None:
            completed = await locks.find_resolution(write_completed_key(request.lock_key, spec.base))
            return completed.lock_key if completed else None
        await admission.check_spec(spec)
        policy, logins = await admission.find_policy(), await self.builder.logins.find(spec.owner)
        key = self.builder.resolution_key(spec, policy, logins.key)
        found = await locks.find_resolution(key) if key is not None else None
        if found is None or not is_fresh(spec, found.solved, self.builder.settings, time.time()):
            return None
        return found.lock_key
