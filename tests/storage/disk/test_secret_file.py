"""Files of secrets are read whole, or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from storage.disk.secret_file import MOST_BYTES, read_first_line, read_lines
from storage.errors import VaultKeysInvalid
from storage.vault.key_text import new_key
from storage.vault.vault import Vault


def test_lines_of_files_of_the_largest_size(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"first\r\n" + b"x" * (MOST_BYTES - 7))
    assert read_first_line(file) == "first"
    assert read_lines(file) == ["first", "x" * (MOST_BYTES - 7)]


@pytest.mark.parametrize("text", ["x" * (MOST_BYTES + 1), "first\n" + "x" * MOST_BYTES, "ü" * MOST_BYTES])
def test_longer_ones_are_refused_and_not_cut(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret").write_text(text)
    for read in (read_first_line, read_lines):
        with pytest.raises(ValueError, match=f"it has more than {MOST_BYTES} bytes"):
            read(tmp_path / "secret")


def test_what_never_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="it has more than"):
        read_first_line(Path("/dev/zero"))


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    """As in `--password-file <(pass show condery)`."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text("secret\n"))
    writer.start()
    assert read_first_line(tmp_path / "pipe") == "secret"
    writer.join()


def test_keys_beyond_what_is_read_are_told(tmp_path: Path) -> None:
    """The last key, which old texts need, would be lost otherwise."""
    old = new_key()
    file = tmp_path / "keys"
    file.write_text("\n".join([*(new_key() for _ in range(400)), old]))
    sealed = Vault.open([old], None).seal("text", "row")
    assert Vault.open((), file).unseal(sealed, "row") == "text"
    file.write_text("\n".join([*(new_key() for _ in range(800)), old]))
    with pytest.raises(VaultKeysInvalid, match="more than 32768 bytes"):
        Vault.open((), file)
