"""What a package says it puts where, believed only as far as it can be."""

import hashlib
import json
from pathlib import Path

import pytest

from builder.errors import PackageRefused
from builder.packages.contents import ContentPath, EntryPoint, PackageContents, Placeholder, PythonLayout
from builder.packages.inspection import inspect
from builder.packages.listing import DEFAULT_PLACEHOLDER
from tests.support.builder.packages import PLACEHOLDER, PYTHON, TIME, Directory, File, Link, Made, Package


def inspected(made: Made, python: PythonLayout | None = None) -> PackageContents:
    return inspect(made.path, made.record, python, made.path.parent.parent / "contents")


def test_columns_of_a_package(tmp_path: Path) -> None:
    package = Package(
        files={
            "bin/run": File(b"#!", 0o755, "text"),
            "lib/liba.so": File(b"\0", placeholder="binary"),
            "lib/link": Link("liba.so", placeholder="text"),
            "share/empty": Directory(),
            "unlisted": File(b"", listed=False),
        }
    )
    contents = inspected(package.conda(tmp_path))
    rows = {row.target: row for row in contents.paths()}
    assert rows.keys() == {"bin/run", "lib/liba.so", "lib/link", "share/empty"}
    digest = hashlib.sha256(b"#!").hexdigest()
    assert rows["bin/run"] == ContentPath(
        "bin/run", "bin/run", "file", 2, digest, Placeholder(PLACEHOLDER, "text"), False
    )
    assert rows["lib/liba.so"].placeholder == Placeholder(PLACEHOLDER, "binary")
    assert (rows["lib/link"].kind, rows["lib/link"].placeholder) == ("softlink", None)
    assert rows["share/empty"].kind == "directory"
    assert list(contents.directories) == ["bin", "lib", "share", "share/empty"]
    assert sorted(contents.list_installed()) == ["bin/run", "lib/liba.so", "lib/link"]
    assert (contents.timestamp, contents.noarch, contents.package) == (TIME, None, "sample-1.0-0")


@pytest.mark.parametrize("last", [False, True])
def test_info_may_be_anywhere_in_a_tar_bz2(tmp_path: Path, last: bool) -> None:
    assert list(inspected(Package(files={"a": b""}).tar_bz2(tmp_path, info_last=last)).targets) == ["a"]


def test_files_below_info_are_not_installed(tmp_path: Path) -> None:
    contents = inspected(Package(files={"info/x": b"", "y": b"", "share/info/z": b""}).conda(tmp_path))
    assert list(contents.targets) == ["share/info/z", "y"]


def test_the_listing_of_old_packages(tmp_path: Path) -> None:
    listing = b"bin/a\nlib/b c\nlib/link\nshare/d\ninfo/x\n"
    prefixes = b'bin/a\n"/some where" binary "lib/b c"\n/else text lib/link\n'
    package = Package(
        files={"bin/a": b"", "lib/b c": b"", "lib/link": Link("b c"), "share/d": b""},
        info={"paths.json": None, "files": listing, "has_prefix": prefixes, "no_link": b"share/d\n"},
    )
    contents = inspected(package.tar_bz2(tmp_path))
    assert [(row.target, row.kind, row.placeholder, row.no_link) for row in contents.paths()] == [
        ("bin/a", "file", Placeholder(DEFAULT_PLACEHOLDER, "text"), False),
        ("lib/b c", "file", Placeholder("/some where", "binary"), False),
        ("lib/link", "softlink", None, False),
        ("share/d", "file", None, True),
    ]


def test_neither_listing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageRefused, match=r"neither info/paths.json nor info/files"):
        inspected(Package(info={"paths.json": None}).conda(tmp_path))


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"index.json": None}, "no info/index.json"),
        ({"index.json": b"[]"}, "not a JSON object"),
        ({"index.json": b"{"}, "not JSON"),
        ({"paths.json": b'{"paths_version": 2, "paths": []}'}, "paths_version 1"),
        ({"paths.json": b'{"paths_version": 1, "paths": [{}]}'}, "makes no sense"),
        ({"paths.json": b'{"paths_version": 1, "paths": [{"_path": 1}]}'}, "makes no sense"),
        ({"paths.json": b'{"paths_version": 1, "paths": [{"_path": "a", "path_type": "fifo"}]}'}, "makes no sense"),
        (
            {"paths.json": b'{"paths_version":1,"paths":[{"_path":"a","prefix_placeholder":"/","file_mode":"x"}]}'},
            "neither text nor binary",
        ),
        ({"paths.json": None, "files": b"\xff"}, "not UTF-8"),
        ({"paths.json": None, "files": b"a", "has_prefix": b"a b"}, "has_prefix has a line"),
        ({"index.json": b'{"noarch_python": true}'}, "old-style noarch_python"),
        ({"index.json": b'{"timestamp": "now"}'}, "is not a time"),
    ],
)
def test_listings_that_make_no_sense_are_refused(tmp_path: Path, info: dict[str, bytes | None], said: str) -> None:
    with pytest.raises(PackageRefused, match=said):
        inspected(Package(info=info).conda(tmp_path))


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../up", "a/../../b", "a/./b", "a//b", "a/", "", "a\0b", "a\nb", "lib/.wh.b", ".wh.lib/b", ".."],
)
def test_paths_that_lead_out_of_the_prefix_or_delete_are_refused(tmp_path: Path, path: str) -> None:
    listing = json.dumps({"paths_version": 1, "paths": [{"_path": "fine"}, {"_path": path}]}).encode()
    with pytest.raises(PackageRefused, match="cannot be installed"):
        inspected(Package(info={"paths.json": listing}).conda(tmp_path))


def test_a_path_through_a_link_of_the_same_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageRefused, match="lib64 is a file or link"):
        inspected(Package(files={"lib64": Link("/etc"), "lib64/passwd": b""}).conda(tmp_path))


def test_a_path_listed_twice_is_refused(tmp_path: Path) -> None:
    listing = json.dumps({"paths_version": 1, "paths": [{"_path": "a"}, {"_path": "a"}]}).encode()
    with pytest.raises(PackageRefused, match="lists a twice"):
        inspected(Package(info={"paths.json": listing}).conda(tmp_path))


NOARCH = Package(
    name="tool",
    noarch="python",
    files={"site-packages/tool/__init__.py": b"", "python-scripts/old": b"", "etc/tool": b""},
    entry_points=["tool = tool.cli:main.run"],
)


def test_noarch_python_goes_where_that_python_looks(tmp_path: Path) -> None:
    made = NOARCH.conda(tmp_path)
    contents = inspected(made, PYTHON)
    assert sorted(contents.targets) == ["bin/old", "etc/tool", "lib/python3.11/site-packages/tool/__init__.py"]
    assert contents.entry_points == [EntryPoint("tool", "tool.cli", "main.run")]
    assert "lib/python3.11/site-packages/tool" in contents.directories
    assert "site-packages" not in contents.directories
    assert "bin/tool" in contents.list_installed()
    threaded = inspected(made, PythonLayout("3.13", "lib/python3.13t/site-packages"))
    assert "lib/python3.13t/site-packages/tool/__init__.py" in threaded.targets


def test_noarch_python_without_a_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageRefused, match=r"tool-1.0-0.*no python"):
        inspected(NOARCH.conda(tmp_path))


def test_other_packages_do_not_depend_on_the_python(tmp_path: Path) -> None:
    made = Package(files={"site-packages/a": b""}).conda(tmp_path)
    assert inspected(made, PYTHON) == inspected(made)


def test_layouts_of_pythons(tmp_path: Path) -> None:
    plain = Package(name="python", version="3.12.7").conda(tmp_path).record
    threaded = Package(name="python", version="3.13.0", python_site_packages_path="lib/python3.13t/site-packages")
    hostile = Package(name="python", version="3.13.0", python_site_packages_path="../../etc")
    assert PythonLayout.of(plain) == PythonLayout("3.12", "lib/python3.12/site-packages")
    assert PythonLayout.of(threaded.conda(tmp_path).record) == PythonLayout("3.13", "lib/python3.13t/site-packages")
    with pytest.raises(PackageRefused):
        PythonLayout.of(hostile.conda(tmp_path).record)


def test_entry_points_of_older_packages(tmp_path: Path) -> None:
    metadata = json.dumps({"noarch": {"type": "python", "entry_points": ["a=b:c"]}}).encode()
    package = Package(noarch="python", info={"link.json": None, "package_metadata.json": metadata})
    assert inspected(package.tar_bz2(tmp_path), PYTHON).entry_points == [EntryPoint("a", "b", "c")]


@pytest.mark.parametrize(
    "line",
    [
        "a/b = m:f",
        "../a = m:f",
        ".a = m:f",
        " = m:f",
        "a = m",
        "a",
        "a = m;x:f",
        "a = m:f()",
        "a = 1m:f",
        "a = m:f\nimport os",
        "a\nb = m:f",
    ],
)
def test_entry_points_that_could_do_harm_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(PackageRefused, match="entry point"):
        inspected(Package(noarch="python", entry_points=[line]).conda(tmp_path), PYTHON)


def test_link_scripts_are_reported(tmp_path: Path) -> None:
    package = Package(
        files={"bin/.sample-post-link.sh": b"", "bin/.sample-pre-unlink.sh": b"", "bin/post-link.sh": b""}
    )
    assert list(inspected(package.conda(tmp_path)).link_scripts) == [
        "bin/.sample-post-link.sh",
        "bin/.sample-pre-unlink.sh",
    ]


@pytest.mark.parametrize(
    ("timestamp", "seconds"), [(None, TIME), (1_500_000_000_123, 1_500_000_000), (1_500_000_000, 1_500_000_000)]
)
def test_timestamps(tmp_path: Path, timestamp: int | None, seconds: int) -> None:
    assert inspected(Package(timestamp=timestamp).conda(tmp_path)).timestamp == seconds


def test_inspections_are_remembered_and_broken_memory_is_made_anew(tmp_path: Path) -> None:
    made = NOARCH.conda(tmp_path)
    first = inspected(made, PYTHON)
    content = made.path.read_bytes()
    made.path.unlink()
    assert inspected(made, PYTHON) == first
    made.path.write_bytes(content)
    (remembered,) = (tmp_path / "contents").rglob("*.json")
    remembered.write_bytes(remembered.read_bytes()[:50])
    assert inspected(made, PYTHON) == first


def test_an_archive_that_changed_since_is_verified_again(tmp_path: Path) -> None:
    made = Package(files={"a": b""}).conda(tmp_path)
    first = inspected(made)
    content = made.path.read_bytes()
    made.path.write_bytes(content[:-1] + b"x")
    with pytest.raises(PackageRefused, match="sha256"):
        inspected(made)
    made.path.write_bytes(content)
    assert inspected(made) == first


def test_an_archive_that_is_not_as_recorded_is_not_read(tmp_path: Path) -> None:
    made = Package().conda(tmp_path)
    made.path.write_bytes(made.path.read_bytes() + b"\0")
    with pytest.raises(PackageRefused, match="bytes, but its channel's record"):
        inspected(made)
    assert not (tmp_path / "contents").exists()
