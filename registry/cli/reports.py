"""The report of an image at a running server, for `condery explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry.cli.environments.client import ServerRefused
from registry.cli.options import UsageError

if TYPE_CHECKING:
    from registry.cli.environments.client import Client, Fields

REPORT = "report.json"


async def fetch_report(client: Client, image: str, root: str) -> dict[str, Any]:
    """What `condery explain` shows of `[HOST/]NAME[:TAG]`, as a server has it. Raises UsageError, ServerRefused."""
    if "@" in image or image.startswith(("sha256:", "sha512:", "lock-")):
        raise UsageError(
            f"{image}: at a server only names with tags are known; the local store knows digests and locks"
        )
    host, slash, rest = image.partition("/")
    is_whole = bool(slash) and (":" in host or host in ("localhost", client.origin.host))
    repository, _, tag = (rest if is_whole else image).partition(":")
    names = [repository]
    if not is_whole and repository.partition("/")[0] != root:
        # it may be short for one on demand, and is one unless there is a namespace
        names = [*(names if slash else []), f"{root}/{repository}"]
    for name in names[:-1]:
        try:
            return read_report(await client.fetch(f"files/{name}/{tag or 'latest'}/{REPORT}"))
        except ServerRefused as error:
            if error.status not in (403, 404):
                raise
    return read_report(await client.fetch(f"files/{names[-1]}/{tag or 'latest'}/{REPORT}"))


def read_report(found: Fields) -> dict[str, Any]:
    """In the form in which the local store has it. Raises ServerRefused."""
    from builder.image.report import BuildReport

    report = {name: found.document.get(name) for name in ("seconds", "platforms")}
    try:
        checked = BuildReport.from_json(report).to_json()
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ServerRefused(found.origin, 200, f"its {REPORT} is not as this version of condery reads it") from None
    variants = [
        {"digest": each.text("digest"), "mediaType": each.text("mediaType")} for each in found.rows("manifests")
    ]
    return {
        "lock": found.text("lock").removeprefix("lock-"),
        "channels": [],
        "image": {"variants": variants},
        "report": checked,
    }
