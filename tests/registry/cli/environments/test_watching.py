"""`condery env watch` in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel


async def test_files_are_built_until_the_command_is_interrupted(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [Package("one")])
    (tmp_path / "files").mkdir()
    (tmp_path / "files/app.yaml").write_text("dependencies: [one]\n")
    options = ["--data-directory", str(tmp_path / "data"), "--channels", channel, "--base", "scratch"]
    run = [sys.executable, "-m", "registry.cli"]
    command = [*run, "env", "watch", str(tmp_path / "files"), "--namespace", "team", *options, "--workers", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            listed: list[dict[str, object]] = []
            end = time.monotonic() + 90
            while not listed and time.monotonic() < end:
                time.sleep(0.5)
                done = subprocess.run(
                    [*run, "env", "list", "--json", "--data-directory", str(tmp_path / "data")],
                    capture_output=True, text=True, timeout=60,
                )  # fmt: skip
                listed = json.loads(done.stdout) if done.returncode == 0 else []
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert [(each["namespace"], each["name"]) for each in listed] == [("team", "app")]
