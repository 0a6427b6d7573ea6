"""All classes of errors that condery understands."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import auth
import builder
import registry
import storage
from storage.errors import ConderyError

PACKAGES = (auth, builder, registry, storage)


def find_subclasses(of: type[ConderyError]) -> Iterator[type[ConderyError]]:
    for each in of.__subclasses__():
        yield each
        yield from find_subclasses(each)


def all_errors() -> dict[str, type[ConderyError]]:
    """Of all packages, by module and name; what tests define is not among them."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if ".migrations" not in module.name and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    ours = {package.__name__ for package in PACKAGES}
    return {
        f"{each.__module__}.{each.__qualname__}": each
        for each in find_subclasses(ConderyError)
        if each.__module__.partition(".")[0] in ours
    }
