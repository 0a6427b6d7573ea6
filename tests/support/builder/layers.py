"""Layers of packages that tests make."""

from pathlib import Path

from builder.layers.fragment import FragmentRecipe
from builder.layers.layer import FragmentTask, LayerTask
from builder.packages.inspection import inspect
from storage.layout import DataDirectory
from tests.support.builder.packages import Package


def layer_task(root: Path, *packages: Package, archives: Path | None = None) -> LayerTask:
    tasks = []
    for package in packages:
        made = package.conda(archives or root.with_name(f"{root.name}-archives"))
        contents = inspect(made.path, made.record, None, root / "contents")
        recipe = FragmentRecipe.of(made.record.archive_key, contents, "/opt/conda")
        tasks.append(FragmentTask(recipe, made.record, made.path))
    return LayerTask(DataDirectory(root), "/opt/conda", tuple(tasks))
