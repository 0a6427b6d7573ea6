"""conda-pack's format: how an archive of an environment gets by without knowing where it will be unpacked.

Files keep the placeholder they were packaged with. `bin/conda-unpack` has a table of them, and writes the place into
each where it is unpacked; scripts whose first line alone names the prefix find their interpreter by `env` instead. Both
are conda-pack's own code and templates, and nothing of a package is run or unpacked for it.

A binary file holds no longer path than its placeholder. conda-pack's script ends there with a traceback, when it has
changed other files for good, so a check of all of them goes before its first change.
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
"""Bytes above which a script keeps its first line, and conda-unpack has to change it: it would have to be in memory."""

_UNPACK = "bin/conda-unpack"
_FIRST_CHANGE = "        if args.verbose and _prefix_records:\n"
"""Where conda-unpack knows its place and has changed nothing; once in conda-pack's template."""
CHECK = r"""        # Not of conda-pack: nothing is changed where this place has a longer path than a binary file holds.
        import glob
        import json
        too_short = []
        place = new_prefix.encode('utf-8')
        for path, placeholder, mode in _prefix_records:
            room = placeholder.encode('utf-8')
            if mode == 'binary' and not on_win and len(room) < len(place):
                with open(os.path.join(new_prefix, path), 'rb') as file:
                    if re.search(re.escape(room) + b'[^\0]*?\0', file.read()):
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
"""What stands before it."""

Relocation = tuple[str, str, Mode]
"""A file that holds a prefix: its path in the archive, the prefix, and how it is to be replaced."""


def is_script(target: str, mode: Mode) -> bool:
    """Whether conda-pack tries to do without a prefix in the file `target`."""
    return mode == "text" and target.startswith("bin/")


def drop_prefix(content: bytes, target: str, prefix: str) -> bytes | None:
    """A script that finds its interpreter by `env`; None where its first line is not the one place with `prefix`."""
    try:
        changed, independent = rewrite_shebang(content, target, prefix)
    except UnicodeDecodeError:
        return None
    return bytes(changed) if independent else None


def write_own_files(relocations: Iterable[Relocation]) -> list[TarMember]:
    """What conda-pack adds to an environment: scripts to activate it, and `bin/conda-unpack` for `relocations`."""
    files: list[TarMember] = []
    packer = _Finish("", _Collector(files))
    packer.prefixes = list(relocations)
    packer.finish()
    return files


@cache
def list_own_paths() -> frozenset[str]:
    """The paths of `write_own_files`, whatever there is to relocate."""
    return frozenset(file.path for file in write_own_files(()))


class _Collector:
    """What conda-pack calls an archive: it takes files by their path on this machine."""

    def __init__(self, files: list[TarMember]) -> None:
        self.files = files

    def add(self, source: str, target: str) -> None:
        self.files.append(TarMember(target, Path(source).read_bytes()))


class _Finish(Packer):  # type: ignore[misc]  # conda-pack has no types
    """conda-pack's last step without its way through temporary files."""

    def _write_text_file(self, fpath: str, ftext: str, executable: bool = False) -> None:
        if fpath == _UNPACK:
            ftext = ftext.replace(_FIRST_CHANGE, CHECK + _FIRST_CHANGE)
        self.archive.files.append(TarMember(fpath, ftext.encode(), 0o755 if executable else 0o644))
