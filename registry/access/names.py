"""The rules for names that follow from a server's settings."""

from __future__ import annotations

from auth.accounts.names import Names
from auth.settings import AccessSettings
from auth.sign_in.workload_settings import WorkloadSettings


def names_of(settings: AccessSettings, workload: WorkloadSettings, root: str) -> Names:
    """Where the settings grant something, a namespace is in use, although no row says so."""
    return Names(root, (*settings.granted_patterns(root), *(each.pattern for each in workload.parsed_rules)))
