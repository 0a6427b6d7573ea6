"""conda-pack's format: an archive of an environment that can be unpacked anywhere.

Files keep the placeholder that they were packaged with. `bin/conda-unpack` has a table of these files and writes the
actual place into each after unpacking. Scripts that name the prefix in their first line only find their interpreter
through `env` instead. Both are conda-pack's own code and templates; nothing of a package is run or unpacked for it.

A binary file has no room for a path longer than its placeholder. conda-pack's script would fail there with a traceback,
with other files already changed. So a check of all files goes before its first change.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from conda_pack import __version__ as conda_pack_version
from conda_pack.core import Packer, rewrite_shebang

from builder.archives.tar_member import TarMember
from builder.packages.prefix import Mode

VERSION: str = conda_pack_version

LARGEST_SCRIPT = 8 << 20
"""Bytes above which a script, too large to hold in memory, keeps its first line and is left to conda-unpack."""

_UNPACK = "bin/conda-unpack"
_FIRST_CHANGE = "        if args.verbose and _prefix_records:\n"
"""The line at which conda-unpack knows its place and has changed nothing. conda-pack's template has it once."""
CHECK = r"""        # Not of conda-pack: nothing is changed where this place has a longer path than a binary file holds.
        import glob
        import json
        too_short = []
        place = new_prefix.encode('utf-8')
        for path, placeholder, mode in _prefix_records:
            room = placeholder.encode('utf-8')
            if mode == 'binary' and not on_win and len(room) < len(place):
                with open(os.path.join(new_prefix, path), 'rb') as file:
                    content = file.read()
                begin = content.find(room)
                if begin >= 0 and content.find(b'\0', begin) >= 0:
                    too_short.append((len(room), path))
        if too_short:
            most, path = min(too_short)
            owner = 'a package'
            for record in glob.glob(os.path.join(new_prefix, 'conda-meta', '*.json')):
                with open(record, 'rb') as file:
                    if path in json.loads(file.read().decode('utf-8')).get('files', ()):
                        owner = os.path.basename(record)[:-len('.json')]
            sys.exit(
                'conda-unpack: the environment cannot be used here. %r of %s can hold the path of a place of at most '
                '%d bytes, and %s has %d.\nNothing was changed: move this directory to a place with a shorter path, '
                'and run conda-unpack there.' % (path, owner, most, new_prefix, len(place))
            )

"""
"""Inserted before that line."""
_FIRST_IMPORT = "# Import progress bar to display unpack progress\n"
NO_BYTECODE = """# Not of conda-pack: Python keeps no bytecode of the module below, since nothing may be changed yet.
import sys
sys.dont_write_bytecode = True
"""
"""Inserted before that line, which conda-pack's template has once too."""

Relocation = tuple[str, str, Mode]
"""A file that holds a prefix: its path in the archive, the prefix, and how to replace it."""


def is_script(target: str, mode: Mode) -> bool:
    """Whether conda-pack tries to make the file `target` independent of the prefix."""
    return mode == "text" and target.startswith("bin/")


def drop_prefix(content: bytes, target: str, prefix: str) -> bytes | None:
    """Make a script find its interpreter through `env`.

    Returns None unless `prefix` is in its first line and nowhere else.
    """
    try:
        changed, independent = rewrite_shebang(content, target, prefix)
    except UnicodeDecodeError:
        return None
    return bytes(changed) if independent else None


def write_own_files(relocations: Iterable[Relocation]) -> list[TarMember]:
    """Write the files that conda-pack adds to an environment: activation scripts, and `bin/conda-unpack` for
    `relocations`."""
    files: list[TarMember] = []
    packer = _Finish("", _Collector(files))
    packer.prefixes = list(relocations)
    packer.finish()
    return files


@cache
def list_own_paths() -> frozenset[str]:
    """List the paths of `write_own_files`, which do not depend on the relocations."""
    return frozenset(file.path for file in write_own_files(()))


class _Collector:
    """Stands in for conda-pack's archive: it takes files by their path on this machine."""

    def __init__(self, files: list[TarMember]) -> None:
        self.files = files

    def add(self, source: str, target: str) -> None:
        self.files.append(TarMember(target, Path(source).read_bytes()))


class _Finish(Packer):  # type: ignore[misc]  # conda-pack has no types
    """conda-pack's last step, without temporary files."""

    def _write_text_file(self, fpath: str, ftext: str, executable: bool = False) -> None:
        if fpath == _UNPACK:
            ftext = ftext.replace(_FIRST_IMPORT, NO_BYTECODE + _FIRST_IMPORT)
            ftext = ftext.replace(_FIRST_CHANGE, CHECK + _FIRST_CHANGE)
        self.archive.files.append(TarMember(fpath, ftext.encode(), 0o755 if executable else 0o644))
