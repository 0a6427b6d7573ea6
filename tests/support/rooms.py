"""The packages, and the order of the rooms in each."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("registry", "builder", "auth", "storage")

ORDER = {
    package: rooms.split()
    for package, rooms in {
        "registry": "cli serving app upkeep routes files welcome ui v2 api dispatch contract access "
        "kinds rates health notifications observer trail parts answers settings mirror http webhooks peers logs errors",
        "builder": "service environments demand ticket build platform_build artifacts image pypi solve queue stages "
        "progress settings publish base layers packages archives remote search policy channels locks names network "
        "work platforms sample_channel elf canonical errors",
        "auth": "sign_in tokens accounts audit settings access refusal principal grants pattern_index binding role "
        "permission remembered changing late errors",
        "storage": "store garbage integrity environments catalog repositories upkeep_settings quotas blobs objects "
        "events vault database disk network settings section strict_json text suggestions glob digest oci background "
        "cancellation use_notes layout clock errors",
    }.items()
}
"""The rooms of each package, and the modules beside them: each may import only those after it."""
