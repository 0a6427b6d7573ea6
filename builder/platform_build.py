"""One platform's image: from the archives of its packages to its layers, config and manifests.

inspect -> overlaps -> plan -> layers -> environment layer -> config, manifests
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.archives.archive import ArchiveLimits
from builder.base.vocabulary import BaseImage
from builder.errors import PackageRefused
from builder.image import documents
from builder.image.environment_layer_task import (
    EnvironmentLayerTask,
    find_shells,
    has_starting_files,
    links_folders,
    make_environment_layer,
)
from builder.image.platform import PlatformImage, describe_layer
from builder.image.report import PlatformReport
from builder.layers.assembly import Layers
from builder.layers.fragment import FragmentRecipe
from builder.layers.layer import FragmentTask, LayerTask
from builder.layers.plan import PlanPackage, plan
from builder.layers.popularity import Popularity
from builder.locks.lock import Lock, LockedPackage
from builder.packages.contents import PackageContents, PythonLayout
from builder.packages.inspection import inspect_all
from builder.packages.overlap import NONE as NO_OVERLAPS
from builder.packages.overlap import Overlaps, PathRoom, read_overlaps
from builder.packages.own_record import complete_all
from builder.packages.path_marks import PathMarks, find_sharing
from builder.progress import Event, Progress
from builder.pypi.own_metadata import complete_wheels
from builder.settings import BuilderSettings
from builder.work.gather import gather_all
from builder.work.pool import HEAVY, WorkerPool
from builder.work.shares import deal_out
from builder.work.stopwatch import Stopwatch
from storage.blobs.store import BlobStore
from storage.digest import Descriptor, Digest
from storage.errors import FragmentsGone
from storage.layout import DataDirectory
from storage.oci import OCI_CONFIG


@dataclass(frozen=True)
class PlatformBuild:
    """Everything needed to make one platform's image."""

    settings: BuilderSettings
    data: DataDirectory
    blobs: BlobStore
    layers: Layers
    pool: WorkerPool
    popularity: Popularity

    async def make(
        self,
        lock: Lock,
        base: BaseImage,
        archives: Mapping[str, Path],
        working: Path,
        progress: Progress,
        watch: Stopwatch,
    ) -> PlatformImage:
        platform = base.platform
        packages = lock.packages[platform]
        with watch.stage("inspect"):
            contents, marks = await self.inspect(packages, archives, progress)
            overlaps = await self._find_overlaps(packages, archives, marks)
            scripts = self.find_link_scripts(packages, contents)
        with watch.stage("layers"):
            tasks = self._plan_layers(lock.spec.prefix, packages, contents, archives, overlaps)
            assembly = await self.layers.assemble(
                tasks, lambda done, names: progress(Event("layers", done, len(tasks), names))
            )
        with watch.stage("image"):
            task = self._plan_environment_layer(lock, base, tasks, contents, working)
            try:
                finished = await self.pool.run("writing the environment layer", make_environment_layer, task)
            except FragmentsGone:
                # layers that lost their fragments too must fail now, not in the next attempt
                await assembly.wait_until_stored()
                raise
            layers = [*map(describe_layer, assembly.layers, tasks), finished.layer]
            written = documents.write_image(lock, platform, base, layers, finished.facts)
            config = Descriptor(OCI_CONFIG, Digest.of(written.config), len(written.config))
            await self.blobs.put_all(
                {finished.layer.descriptor.digest: finished.pieces(), config.digest: [written.config]}
            )
            await assembly.wait_until_stored()
        blobs = (config, *(layer.descriptor for layer in base.layers), *(layer.descriptor for layer in layers))
        report = PlatformReport.of(assembly.layers, tasks, finished, overlaps, scripts)
        return PlatformImage(platform, written, blobs, report, tuple(scripts), finished.warnings)

    async def inspect(
        self, packages: Sequence[LockedPackage], archives: Mapping[str, Path], progress: Progress
    ) -> tuple[dict[str, PackageContents], dict[str, PathMarks]]:
        """Return the contents' outlines and the marks of their paths, by package name."""
        python = PythonLayout.among(packages)
        done = 0

        async def read(some: Sequence[LockedPackage]) -> list[tuple[PackageContents, PathMarks]]:
            nonlocal done
            paths = [archives[package.archive_key] for package in some]
            result = await self.pool.run_sized(
                sum(map(_measure, some)),
                f"reading {some[0]}",
                inspect_all,
                some,
                paths,
                python,
                self.data.contents,
                self.limits,
            )
            done += len(some)
            progress(Event("inspect", done, len(packages), str(some[-1])))
            return result

        ordered = sorted(packages, key=lambda each: each.name)
        shares = deal_out(ordered, 4 * self.settings.workers, _measure)
        found = itertools.chain.from_iterable(await gather_all(read(some) for some in shares))
        by_name = {
            package.name: each for package, each in zip(itertools.chain.from_iterable(shares), found, strict=True)
        }
        return (
            {name: contents for name, (contents, _) in by_name.items()},
            {name: marks for name, (_, marks) in by_name.items()},
        )

    async def complete(self, packages: Sequence[LockedPackage], archives: Mapping[str, Path]) -> list[LockedPackage]:
        """Return the packages with what their archives say of them. Raises PackageRefused."""
        wheels = [package for package in packages if package.is_wheel]
        conda = [package for package in packages if not package.is_wheel]
        work = [
            self.pool.run_sized(
                sum(map(_measure, some)),
                f"reading {some[0]}",
                complete_some,
                some,
                [archives[package.archive_key] for package in some],
                self.limits,
            )
            for complete_some, each in ((complete_all, conda), (complete_wheels, wheels))
            for some in deal_out(each, 4 * self.settings.workers, _measure)
        ]
        return list(itertools.chain.from_iterable(await gather_all(work)))

    async def _find_overlaps(
        self, packages: Sequence[LockedPackage], archives: Mapping[str, Path], marks: Mapping[str, PathMarks]
    ) -> Overlaps:
        """Find the paths that several packages contain. Only packages that may share paths are read again."""
        room = PathRoom(self.limits)
        for package in packages:
            room.take(str(package), marks[package.name].paths, marks[package.name].text)
        among = find_sharing(marks)
        if not among:
            return NO_OVERLAPS
        python = PythonLayout.among(packages)
        return await self.pool.run_sized(
            sum(_measure(package) for package in packages if package.name in among),
            "comparing the paths of the packages",
            read_overlaps,
            packages,
            archives,
            python,
            self.data.contents,
            self.limits,
            among,
        )

    @property
    def limits(self) -> ArchiveLimits:
        settings = self.settings
        return ArchiveLimits(expanded=settings.max_expanded, ratio=settings.max_ratio, paths=settings.max_paths)

    def find_link_scripts(
        self, packages: Sequence[LockedPackage], contents: Mapping[str, PackageContents]
    ) -> dict[str, list[str]]:
        """Return the link scripts by package. Raises PackageRefused if the setting forbids skipping them."""
        scripts = {str(package): list(contents[package.name].link_scripts) for package in packages}
        scripts = {package: names for package, names in scripts.items() if names}
        if scripts and self.settings.refuse_scripts:
            package, names = next(iter(scripts.items()))
            raise PackageRefused(
                package,
                f"it has the link script {names[0]}, which is never run, and refuse_scripts forbids skipping it",
            )
        return scripts

    def _plan_layers(
        self,
        prefix: str,
        packages: Sequence[LockedPackage],
        contents: Mapping[str, PackageContents],
        archives: Mapping[str, Path],
        overlaps: Overlaps,
    ) -> list[LayerTask]:
        chosen = plan([PlanPackage.of(package) for package in packages], popularity=self.popularity)
        by_name = {package.name: package for package in packages}

        def fragment(name: str) -> FragmentTask:
            package = by_name[name]
            recipe = FragmentRecipe.of(package.archive_key, contents[name], prefix, overlaps.excluded.get(name, ()))
            return FragmentTask(recipe, package, archives[package.archive_key])

        return [
            LayerTask(self.data, prefix, tuple(fragment(name) for name in layer), self.limits)
            for layer in chosen.layers
        ]

    def _plan_environment_layer(
        self,
        lock: Lock,
        base: BaseImage,
        tasks: Sequence[LayerTask],
        contents: Mapping[str, PackageContents],
        working: Path,
    ) -> EnvironmentLayerTask:
        fragments = tuple(fragment for task in tasks for fragment in task.fragments)
        return EnvironmentLayerTask(
            self.data, lock, base.platform, base.shell, self.settings.user, self.limits,
            fragments,
            shells=find_shells(contents.values()),
            starting=tuple(each for each in fragments if has_starting_files(contents[each.package.name])),
            working=working,
            linked=links_folders(contents.values()),
        )  # fmt: skip


def _measure(package: LockedPackage) -> int:
    return HEAVY if package.size is None else package.size
