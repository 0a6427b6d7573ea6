"""Makes the image of an imported build again, of its lock, and says whether it is the same.

The lock is somebody else's word. It is built as it stands only if the archives say the same of all that rules judge.
"""

from __future__ import annotations

from dataclasses import dataclass

from builder.build import Builder, Place
from builder.environments.transfer.images import explain_difference
from builder.environments.transfer.origin import Origin
from builder.errors import UnknownLock
from builder.image.finished import FinishedImage
from builder.locks.lock import Lock, LockedPackage
from builder.progress import Progress
from storage.environments.builds import EnvironmentBuilds
from storage.environments.vocabulary import EnvironmentBuild


@dataclass(frozen=True)
class RemadeLock:
    lock: Lock
    difference: str | None = None
    """What the archives say otherwise than the exported lock, as a part of a sentence."""


async def find_lock(builder: Builder, build: EnvironmentBuild, progress: Progress) -> RemadeLock:
    """The lock to build: the exported one if its archives bear it out, else what they say.

    Raises UnknownLock, and what `Builder.complete` raises.
    """
    document = await builder.catalog.locks.find(build.lock_key) if build.lock_key else None
    if document is None:
        raise UnknownLock(f"build {build.id}", "the lock that was imported with it was deleted; import it again")
    claimed = Lock.from_json(document)
    completed = await builder.complete(claimed, progress, Place(build.namespace, build.repository, build.name))
    difference = _compare(claimed, completed)
    if difference is None:
        return RemadeLock(claimed)
    await builder.catalog.locks.put(completed.key, completed.spec.key, completed.to_json())
    return RemadeLock(completed, difference)


def _compare(claimed: Lock, completed: Lock) -> str | None:
    """What the archives say otherwise of what rules judge, and of what decides where files go.

    Their dependencies may differ: channels correct those in their index.
    """
    for platform, packages in claimed.packages.items():
        found = {each.name: each for each in completed.packages[platform]}
        for package in packages:
            for what, before, now in _list_facts(package, found[package.name]):
                if before != now:
                    return (
                        f"the archive of {package} says another {what} than the exported lock, which was not followed"
                    )
    return None


def _list_facts(claimed: LockedPackage, completed: LockedPackage) -> list[tuple[str, object, object]]:
    return [
        ("license", claimed.license, completed.license),
        ("date", claimed.dates, completed.dates),
        ("build number", claimed.build_number, completed.build_number),
        ("noarch", claimed.noarch, completed.noarch),
        ("place of site-packages", claimed.python_site_packages_path, completed.python_site_packages_path),
    ]


async def compare(builder: Builder, builds: EnvironmentBuilds, origin: Origin, remade: RemadeLock, key: str) -> str:
    """One sentence on the image `key`, beside what it was elsewhere."""
    document = await builds.find_image(key)
    image = FinishedImage.from_json(document["image"]) if document else None
    beginning = f"imported from {origin}"
    if origin.image is None or image is None:
        return f"{beginning}, which had no image to compare with"
    if image.variants[0].digest == origin.image.top.digest:
        also = f"; {remade.difference}" if remade.difference else ""
        return f"{beginning}, and made again with the same digest{also}"
    reason = remade.difference
    if reason is None and origin.lock_key != remade.lock.key:
        reason = "its channels are asked with the credentials of another namespace"
    if reason is None:
        reason = explain_difference(builder, origin.image, await builds.list_manifests(key))
    return f"{beginning}, but its image is another one than {origin.image.top.digest}: {reason}"
