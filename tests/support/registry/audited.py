"""What the audit log of a site has."""

from __future__ import annotations

from auth.audit.reading import AuditFilter
from tests.support.registry.serving import Site


async def stored(site: Site) -> list[tuple[str, str, str, str]]:
    """All that the audit log has, the oldest first, once it has written what it was told."""
    async with site.access.audit.writing():
        pass
    page = await site.access.audit.read_page(AuditFilter(), None, 1000)
    return [(each.principal, each.action, each.entity, each.outcome) for each in reversed(page.events)]
