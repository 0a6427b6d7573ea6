"""An import or an export that ends half-way leaves nothing that anybody sees, and the next one succeeds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from builder.errors import PublishFailed
from storage.environments.lists.scope import Scope
from storage.errors import EnvironmentUnknown, StorageFull
from tests.support.builder.named import end_of, write_down
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service
from tests.support.builder.transfer.histories import History, exporting, importing, named_of
from tests.support.small_disk import small_disk

IMPORTS = """
import asyncio, sys, time
from pathlib import Path
import storage.environments.transfer.importing as transaction
import storage.blobs.store as blobs
from tests.support.builder.transfer.histories import importing
from tests.support.builder.services import open_service

def hang(*_):
    print("there", flush=True)
    time.sleep(600)

root, channel, archive, stage, url = sys.argv[1:]
if stage == "blobs":
    blobs.claim = hang
else:
    transaction.set_tags = hang

async def main():
    async with open_service(Path(root), channel, url=url or None) as service:
        await importing(service).read(Path(archive), by="bob")

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("stage", "database"),
    [("blobs", ""), ("transaction", ""), pytest.param("transaction", "migrated_postgres", marks=pytest.mark.services)],
)
async def test_whoever_is_killed_leaves_no_environment(
    tmp_path: Path, history: History, stage: str, database: str, request: pytest.FixtureRequest
) -> None:
    url = str(request.getfixturevalue(database)) if database else ""
    made = history.put(tmp_path / "archive.tar")
    command = [
        sys.executable,
        "-c",
        IMPORTS,
        str(tmp_path / "here"),
        made.channel,
        str(tmp_path / "archive.tar"),
        stage,
        url,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        while line := process.stdout.readline():
            if line == b"there\n":
                break
        assert line, "it ended by itself"
        os.killpg(process.pid, signal.SIGKILL)
    async with open_service(tmp_path / "here", made.channel, url=url or None) as service:
        store = named_of(service).store
        with pytest.raises(EnvironmentUnknown):
            await store.environments.find("team", "Science")
        assert await store.builds.list_ids(Scope()) == []
        assert len(await importing(service).read(tmp_path / "archive.tar", by="bob")) == 3


async def test_a_full_disk_and_too_many_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = await make_channel(tmp_path / "channel", [Package("one", files={"share/big": os.urandom(24 << 20)})])
    async with open_service(tmp_path / "there", channel) as service:
        named = named_of(service)
        await end_of(named, await named.create("team", "science", write_down(service, "one"), by="ann"))
        with small_disk(tmp_path / "out", 8) as out:
            for name in ("archive", "archive.tar"):
                with pytest.raises(StorageFull):
                    await exporting(service).write("team", "science", out / name)
                assert list(out.iterdir()) == []
        with monkeypatch.context() as changed:
            # what an import would not read is not written
            changed.setattr("builder.environments.transfer.exporting.LARGEST_MANIFEST", 100)
            with pytest.raises(PublishFailed, match="more than one archive can describe"):
                await exporting(service).write("team", "science", tmp_path / "large.tar")
            assert not (tmp_path / "large.tar").exists()
        await exporting(service).write("team", "science", tmp_path / "archive.tar")
        with pytest.raises(PublishFailed, match="it already exists"):
            await exporting(service).write("team", "science", tmp_path)
    with small_disk(tmp_path / "here", 16) as here:
        async with open_service(here, channel) as service:
            with pytest.raises(StorageFull):
                await importing(service).read(tmp_path / "archive.tar", by="bob")
            assert await named_of(service).store.builds.list_ids(Scope()) == []
