"""Makes everything stored look old."""

from __future__ import annotations

from storage.database import tables
from tests.support.storage.content import Content

AGES = {
    tables.repository_manifest: ("pushed",),
    tables.manifest: ("created",),
    tables.link: ("created",),
    tables.blob: ("created", "used"),
    tables.image: ("used",),
    tables.artifact: ("used",),
    tables.upload: ("created", "touched"),
    tables.pending: ("expires",),
}


async def make_old(content: Content) -> None:
    """Make it look as if everything was last pushed, made or used in 1970."""
    for table, columns in AGES.items():
        await content.change(table, **dict.fromkeys(columns, 1.0))
    manifest = tables.repository_manifest
    await content.change(manifest, manifest.c.untagged.is_not(None), untagged=1.0)
