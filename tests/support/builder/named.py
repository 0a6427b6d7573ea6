"""Named environments in tests: what is written down, and waiting for a build to end."""

from __future__ import annotations

import asyncio

from builder.environments.inputs.input import EnvironmentInput, InputKind
from builder.environments.life import NamedEnvironments
from builder.names.image_name import parse_specs
from builder.service import BuilderService
from storage.environments.vocabulary import EnvironmentBuild


def write_down(service: BuilderService, *specs: str) -> EnvironmentInput:
    spec = parse_specs(specs, service.builder.settings)
    document = {"name": "science", "channels": list(spec.channels), "dependencies": list(specs)}
    return EnvironmentInput(InputKind.ENVIRONMENT, document, spec, name="science")


async def end_of(named: NamedEnvironments, build: EnvironmentBuild) -> EnvironmentBuild:
    async with asyncio.timeout(60):
        while not (found := await named.store.builds.find(build.id)).is_finished:
            await asyncio.sleep(0.02)
    return found
