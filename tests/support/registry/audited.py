"""What the audit log of a site has."""

from __future__ import annotations

from auth.audit.reading import AuditFilter, AuditPage
from tests.support.registry.serving import Site


async def read_stored(site: Site, **wanted: str) -> AuditPage:
    """Its newest events, once it has written what it was told."""
    async with site.access.audit.writing():
        pass
    return await site.access.audit.read_page(AuditFilter(**wanted), None, 1000)  # type: ignore[arg-type]  # texts alone


async def read_events(site: Site) -> list[tuple[str, str, str, str]]:
    """All that the audit log has, the oldest first."""
    page = await read_stored(site)
    return [(each.principal, each.action, each.entity, each.outcome) for each in reversed(page.events)]
