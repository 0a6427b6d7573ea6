"""The report of a build: how an image was made. It is kept beside the image, for `condery explain`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from builder.image.environment_layer_task import FinishedLayer
from builder.layers.layer import AssembledLayer, LayerTask
from builder.packages.overlap import Overlap, Overlaps
from storage.digest import Digest

DIFFERENCES = 500
"""Differences that the report of a platform's image lists one by one."""

LONGEST_DIFFERENCE = 400
"""Characters of one difference: half for the path, half for the rest, which at its longest holds two hashes."""


@dataclass(frozen=True)
class LayerReport:
    """A layer of ours; sizes in bytes, compressed."""

    digest: Digest
    size: int
    packages: tuple[tuple[str, int], ...] = ()
    """Each package with its size, in the layer's order. The environment layer has none."""

    def to_json(self) -> dict[str, Any]:
        packages = [{"name": name, "size": size} for name, size in self.packages]
        return {"digest": self.digest, "size": self.size, "packages": packages}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        packages = tuple((package["name"], package["size"]) for package in document["packages"])
        return cls(Digest.parse(document["digest"]), document["size"], packages)


@dataclass(frozen=True)
class PlatformReport:
    """The report on one platform's image."""

    layers: tuple[LayerReport, ...]
    overlaps: tuple[Overlap, ...]
    scripts: Mapping[str, Sequence[str]]
    """By package: its link scripts, which were not run."""
    warnings: Sequence[str] = ()
    variables: Sequence[str] = ()
    """The packages' variables that were skipped, a sentence each."""
    differences: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By package: where its archive differs from its own listing."""

    @classmethod
    def of(
        cls,
        assembled: Sequence[AssembledLayer],
        tasks: Sequence[LayerTask],
        finished: FinishedLayer,
        overlaps: Overlaps,
        scripts: Mapping[str, Sequence[str]],
    ) -> Self:
        """Report on `finished`, the environment layer, and on `assembled`, the layers below it, each with its task."""
        held = [
            [(str(fragment.package), info) for fragment, info in zip(task.fragments, layer.fragments, strict=True)]
            for layer, task in zip(assembled, tasks, strict=True)
        ]
        layers = [
            LayerReport(layer.digest, layer.size, tuple((name, info.size) for name, info in packages))
            for layer, packages in zip(assembled, held, strict=True)
        ]
        last = finished.layer.descriptor
        return cls(
            layers=(*layers, LayerReport(last.digest, last.size)),
            overlaps=overlaps.rows,
            scripts=scripts,
            warnings=finished.warnings,
            variables=finished.skipped,
            differences=bound_differences((name, info.differences) for packages in held for name, info in packages),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "layers": [layer.to_json() for layer in self.layers],
            "overlaps": [asdict(row) for row in self.overlaps],
            "scripts": {package: list(names) for package, names in self.scripts.items()},
            "warnings": list(self.warnings),
            "variables": list(self.variables),
            "differences": {package: list(lines) for package, lines in self.differences.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read a report. One from an older version has no warnings, variables and differences."""
        return cls(
            layers=tuple(map(LayerReport.from_json, document["layers"])),
            overlaps=tuple(Overlap(row["path"], row["winner"], tuple(row["losers"])) for row in document["overlaps"]),
            scripts=document["scripts"],
            warnings=document.get("warnings", ()),
            variables=document.get("variables", ()),
            differences=document.get("differences", {}),
        )


@dataclass(frozen=True)
class BuildReport:
    """The report on the whole image."""

    seconds: Mapping[str, float]
    """By stage, in the order in which the stages started."""
    platforms: Mapping[str, PlatformReport]

    def to_json(self) -> dict[str, Any]:
        return {
            "seconds": {stage: round(seconds, 4) for stage, seconds in self.seconds.items()},
            "platforms": {platform: report.to_json() for platform, report in self.platforms.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        platforms = document["platforms"].items()
        return cls(document["seconds"], {name: PlatformReport.from_json(report) for name, report in platforms})


def bound_differences(packages: Iterable[tuple[str, Sequence[str]]]) -> dict[str, list[str]]:
    """Return at most DIFFERENCES lines in all, by package, plus a line for each package that has more."""
    shown: dict[str, list[str]] = {}
    room = DIFFERENCES
    for package, lines in packages:
        if lines:
            shown[package] = [shorten(line) for line in lines[:room]]
            if more := len(lines) - len(shown[package]):
                shown[package].append(f"and {more} more lines, not shown")
            room -= min(room, len(lines))
    return shown


def shorten(line: str) -> str:
    """Cut the middle out of a long line: it starts with a path and ends with what is wrong."""
    if len(line) <= LONGEST_DIFFERENCE:
        return line
    half = LONGEST_DIFFERENCE // 2
    return f"{line[:half]} ... {line[-half:]}"
