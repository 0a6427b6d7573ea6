"""Packages that try to write or read outside the environment, as a table.

Whoever owns a channel that an image's name can reach sends them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.attacks.hostile import Hostile
from tests.support.builder.packages import PLACEHOLDER, Directory, File, Link, Package

SECRET = b"the server's own secret 7f3a91"
VICTIM = Path("/tmp") / f"condery-victim-{os.getpid()}"
OUT = str(VICTIM).strip("/")
PTH = b"import os; os.system('touch /tmp/pwned')\n"
DEEP = "deep/" + "/".join(map(str, range(1, 41)))
INSIDE = "deep/" + "/".join(map(str, range(1, 11)))


@dataclass(frozen=True)
class Attack:
    """`said` is a part of the reason why it is refused, None for one that is harmless."""

    hostile: Hostile
    said: str | None
    asked: tuple[str, ...] = ()
    """More packages of the same environment."""


def listed(path: str, kind: str = "hardlink", **more: object) -> dict[str, object]:
    return {"_path": path, "path_type": kind, **more}


def conda(name: str, members: object, paths: object, info: object = (), **more: object) -> Hostile:
    return Hostile(Package(name), members, paths, info, more=dict(more))  # type: ignore[arg-type]  # a table's cells


def old(name: str, members: object, paths: object, has_prefix: bytes = b"") -> Hostile:
    return Hostile(Package(name), members, paths, old=True, has_prefix=has_prefix)  # type: ignore[arg-type]  # a table's cells


def noarch(name: str, members: object, paths: object, depends: tuple[str, ...] = ("python",)) -> Hostile:
    return Hostile(Package(name, noarch="python", depends=depends), members, paths)  # type: ignore[arg-type]  # a table's cells


CLIMB = "z/" + "../" * 30 + OUT
WRITE = [(f"{DEEP}/x", b""), (f"{INSIDE}/{OUT}/w.pth", PTH), ("z", Link(DEEP))]
UNTHROUGH = "has files below it"
CANNOT = "cannot be installed under a prefix"

ATTACKS = {
    "writes by a link that means another place": Attack(
        conda("write", WRITE, ["z", f"{CLIMB}/w.pth", f"{DEEP}/x", f"{INSIDE}/{OUT}/w.pth"]), CANNOT
    ),
    "the same, and the link is not listed": Attack(conda("writeb", WRITE, [f"{CLIMB}/w.pth"]), CANNOT),
    "reads by a link that is not listed": Attack(
        conda("read", [("share/d", Link(str(VICTIM)))], ["share/d/secret"]), UNTHROUGH
    ),
    "reads by a link that is listed": Attack(
        conda("readb", [("share/d", Link(str(VICTIM)))], [listed("share/d", "softlink"), "share/d/secret"]), UNTHROUGH
    ),
    "reads by a link listed as a file": Attack(
        conda("readc", [("share/d", Link(str(VICTIM)))], ["share/d", "share/d/secret"]), UNTHROUGH
    ),
    "reads by a link listed as a directory": Attack(
        conda("readd", [("share/d", Link(str(VICTIM)))], [listed("share/d", "directory")]), "is not one in the archive"
    ),
    "reads by a link of a relative way": Attack(
        conda("reade", [("share/d", Link("../" * 40 + OUT))], ["share/d/secret"]), UNTHROUGH
    ),
    "a file that is there as well as the link above it": Attack(
        conda("both", [("share/d", Link(str(VICTIM))), ("share/d/secret", b"x")], ["share/d/secret"]), UNTHROUGH
    ),
    "the same, the link last": Attack(
        conda("bothb", [("share/d/secret", b"x"), ("share/d", Link(str(VICTIM)))], ["share/d/secret"]), UNTHROUGH
    ),
    "first a directory, then a link": Attack(
        conda("turns", [("d", Directory()), ("d", Link(str(VICTIM))), ("d/f", PTH)], ["d/f"]), UNTHROUGH
    ),
    "first a link, then a directory": Attack(
        conda("turnsb", [("d", Link(str(VICTIM))), ("d", Directory()), ("d/f", PTH)], ["d/f"]), UNTHROUGH
    ),
    "first a link, then a file of its name": Attack(
        conda("turnsc", [("f", Link(f"{VICTIM}/new")), ("f", PTH)], ["f"]), "occurs twice"
    ),
    "first a file, then a link of its name": Attack(
        conda("turnsd", [("f", PTH), ("./f", Link(f"{VICTIM}/new"))], ["f"]), "occurs twice"
    ),
    "a patched file twice": Attack(
        conda(
            "turnse",
            [("f", File(PLACEHOLDER.encode())), (".//f", Link(f"{VICTIM}/new"))],
            [listed("f", prefix_placeholder=PLACEHOLDER, file_mode="text")],
        ),
        "occurs twice",
    ),
    "a link above, its name written oddly": Attack(
        conda("odd", [("./share//d/", Link(str(VICTIM))), ("share/d/secret", b"")], ["share/d/secret"]), UNTHROUGH
    ),
    "a link above in the info tar": Attack(
        conda("info", [("share/d/secret", b"x")], ["share/d/secret"], [("share/d", Link(str(VICTIM)))]), UNTHROUGH
    ),
    "a link in the info tar, and nothing below": Attack(
        conda("infob", [], ["share/d/secret"], [("share/d", Link(str(VICTIM)))]), UNTHROUGH
    ),
    "a link for info itself": Attack(conda("infoc", [("f", b"")], ["f"], [("info", Link(str(VICTIM)))]), UNTHROUGH),
    "a path in both tars": Attack(conda("infod", [("f", b"1")], ["f"], [("f", b"2")]), "occurs twice"),
    "a link over a file of the other tar": Attack(
        conda("infoe", [("f", b"1")], ["f"], [("f", Link(f"{VICTIM}/secret"))]), "occurs twice"
    ),
    "a link for a directory of the other tar": Attack(
        conda("infof", [("d", Link(str(VICTIM)))], ["d/f"], [("d/f", b"")]), UNTHROUGH
    ),
    "a hard link through a link": Attack(
        conda("hard", [("l", Link(str(VICTIM))), ("h", Link("l/secret", hard=True))], ["h"]),
        UNTHROUGH,
    ),
    "a hard link through a link to a member": Attack(
        conda("hardb", [("l", Link(str(VICTIM))), ("l/secret", b""), ("h", Link("l/secret", hard=True))], ["h"]),
        UNTHROUGH,
    ),
    "a directory in place of the history": Attack(
        conda("pasts", [("conda-meta/history/x", b"")], ["conda-meta/history/x"]), "records of installed packages"
    ),
    "a directory in place of a record": Attack(
        conda("recordd", [("conda-meta/tool-1.0-0.json/x", b"")], ["conda-meta/tool-1.0-0.json/x"]),
        "records of installed packages",
    ),
    "a hard link out": Attack(conda("hardc", [("h", Link(f"../../{OUT}/secret", hard=True))], ["h"]), "leads out"),
    "a hard link to an absolute path": Attack(
        conda("hardd", [("h", Link(f"{VICTIM}/secret", hard=True))], ["h"]), "leads out"
    ),
    "a hard link to a link": Attack(
        conda(
            "harde",
            [("l", Link(f"{VICTIM}/secret")), ("h", Link("l", hard=True))],
            [listed("l", "softlink"), "h"],
        ),
        None,
    ),
    "links to anywhere": Attack(
        conda(
            "links",
            [("a", Link(f"{VICTIM}/secret")), ("b", Link("../" * 30 + f"{OUT}/secret")), ("c", Link("/"))],
            [listed(name, "softlink") for name in "abc"],
        ),
        None,
    ),
    "a link listed as a file to be patched": Attack(
        conda(
            "patched",
            [("a", Link(f"{VICTIM}/secret"))],
            [listed("a", prefix_placeholder="server", file_mode="text")],
        ),
        None,
    ),
    "an absolute member": Attack(conda("absolute", [(f"{VICTIM}/w", PTH)], [f"{VICTIM}/w"]), CANNOT),
    "a member that climbs": Attack(conda("climbs", [(f"a/../../../{OUT}/w", PTH), ("f", b"")], ["f"]), "leads out"),
    "a path with a newline": Attack(conda("newline", [("a\nb", b"")], ["a\nb"]), CANNOT),
    "a path with NUL": Attack(conda("nul", [("a", b"")], ["a\0/../../x"]), CANNOT),
    "backslashes are no separators": Attack(conda("backslash", [("a\\..\\..\\w", b"x")], ["a\\..\\..\\w"]), None),
    "characters that look like dots and slashes": Attack(
        conda("lookalike", [("․․／․․／w", b"x"), ("‥/w", b"")], ["․․／․․／w", "‥/w"]), None
    ),
    "another case is another name": Attack(
        conda("case", [("D", Link(str(VICTIM))), ("d/secret", b"x")], [listed("D", "softlink"), "d/secret"]), None
    ),
    "condery's own folder": Attack(conda("own", [(".condery/entrypoint", PTH)], [".condery/entrypoint"]), ".condery"),
    "a link for condery's own folder": Attack(
        conda("ownb", [(".condery", Link(str(VICTIM)))], [listed(".condery", "softlink")]), ".condery"
    ),
    "a directory for condery's own folder": Attack(conda("ownc", [], [listed(".condery/x/", "directory")]), ".condery"),
    "a link for conda-meta": Attack(
        conda("meta", [("conda-meta", Link(str(VICTIM)))], [listed("conda-meta", "softlink")]), "conda-meta"
    ),
    "another package's record": Attack(
        conda("metab", [("conda-meta/links-1.0-0.json", b"{}")], ["conda-meta/links-1.0-0.json"]), "conda-meta"
    ),
    "the history": Attack(conda("metac", [("conda-meta/history", b"")], ["conda-meta/history"]), "conda-meta"),
    "an old package through a link": Attack(
        old("oldread", [("share/d", Link(str(VICTIM)))], ["share/d/secret"]), UNTHROUGH
    ),
    "an old package's patched link": Attack(
        old("oldpatch", [("a", Link(f"{VICTIM}/secret"))], ["a"], b"server text a\n"), None
    ),
    "an old package that climbs": Attack(old("oldclimb", [("z", Link(DEEP))], ["z", f"{CLIMB}/w"]), CANNOT),
    "an old package of info as a link": Attack(old("oldinfo", [("info", Link("/")), ("f", b"")], ["f"]), UNTHROUGH),
    "an old package of two kinds": Attack(
        old("oldkinds", [("d", Directory()), ("d", Link(str(VICTIM))), ("d/secret", b"")], ["d/secret"]), UNTHROUGH
    ),
    "noarch files on a link of site-packages": Attack(
        noarch("pure", [("site-packages/w.pth", PTH)], ["site-packages/w.pth"], ("sitelink",)),
        "cannot be in one environment",
        ("sitelink", "python ==3.13"),
    ),
    "noarch site-packages that is a link itself": Attack(
        noarch("pureb", [("site-packages", Link(str(VICTIM)))], ["site-packages/w.pth"]),
        UNTHROUGH,
        ("python ==3.13",),
    ),
    "noarch files for condery's own folder": Attack(
        noarch("purec", [("site-packages/entrypoint", PTH)], ["site-packages/entrypoint"]),
        ".condery",
        ("python ==3.14",),
    ),
    "noarch files that the record sends out": Attack(
        noarch("pured", [("site-packages/w.pth", PTH)], ["site-packages/w.pth"]),
        "is not a path under",
        ("python ==3.15",),
    ),
}

PYTHONS = [
    Hostile(Package("python", "3.13"), [], []),
    Hostile(Package("python", "3.14"), [], [], more={"python_site_packages_path": ".condery"}),
    Hostile(Package("python", "3.15"), [], [], more={"python_site_packages_path": "../" * 9 + OUT}),
    conda(
        "sitelink",
        [("lib/python3.13/site-packages", Link(str(VICTIM)))],
        [listed("lib/python3.13/site-packages", "softlink")],
    ),
]
