"""A wheel's fragment is the tree that uv installs, path by path and byte by byte."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import rattler

from builder.archives.tar import EARLIEST
from builder.errors import PackageRefused
from builder.layers.fragment import FragmentRecipe
from builder.packages.wheels.installation import INSTALLER
from builder.sample_channel.wheel_cache import PIP
from tests.support.sample import CACHE, sample_channel_directory
from tests.support.wheels.making import TIME, MadeWheel, Member, Wheel, record_wheel
from tests.support.wheels.trees import Installed, WheelFragment, apply_differences, install_with_uv, read_tree
from tests.support.wide import WIDE

SITE = "lib/python3.11/site-packages"

POPULAR = """
aiobotocore aiohttp annotated-types anyio attrs awscli beautifulsoup4 boto3 botocore certifi cffi
charset-normalizer click colorama coverage cryptography docutils filelock flask frozenlist fsspec
google-api-core google-auth googleapis-common-protos greenlet grpcio h11 httpx idna importlib-metadata iniconfig
jinja2 jmespath lxml markupsafe multidict numpy oauthlib openpyxl packaging pandas pillow pip platformdirs
pluggy propcache protobuf psutil psycopg2-binary pyarrow pyasn1 pycparser pydantic pydantic-core pygments pyjwt
pytest python-dateutil pytz pyyaml requests rich rsa ruff s3fs s3transfer scikit-learn scipy setuptools six
sqlalchemy tomli tqdm typing-extensions tzdata urllib3 virtualenv websockets werkzeug wheel wrapt yarl zipp
"""
"""Some of what is downloaded most from PyPI, pure and binary."""


def make_odd_wheels() -> list[Wheel]:
    data = "odd-1.0.data"
    return [
        Wheel(
            "odd",
            files={
                "odd/__init__.py": b"x = 1\n",
                "odd/a,comma.txt": b"q",
                'odd/a"quote.txt': b"q",
                "odd/a space.txt": b"s",
                "odd/\u00e9.txt": b"e",
                "odd/\U0001f308.txt": b"r",
                "odd/tool.sh": Member(b"#!/bin/sh\n", mode=0o100755),
                "odd/only-owner": Member(b"o", mode=0o744),
                "odd/from-dos": Member(b"d", mode=0o100755, system=0),
                "odd/no-mode": Member(b"n", mode=0),
                "odd/large.bin": bytes(range(256)) * 4096,
                "odd/stored.bin": Member(b"s" * 1000, stored=True),
                "odd/empty": b"",
                "odd/no-date": Member(b"", date=(1980, 1, 1, 0, 0, 0)),
                "odd/_vendor/other-2.0.dist-info/METADATA": b"Name: other\n",
                "odd/folder/": Member(attributes=0o40755 << 16 | 0x10),
                "odd/folder/deeper/": Member(attributes=0o40755 << 16 | 0x10),
                "odd.pth": b"import odd\n",
                f"{data}/scripts/plain": b"#!/bin/sh\necho\n",
                f"{data}/scripts/binary": b"\x7fELF" + bytes(3000),
                f"{data}/scripts/short": b"#!py",
                f"{data}/scripts/python-script": b"#!python -u\nprint(1)\n",
                f"{data}/scripts/window": b"#!pythonw\nprint(1)\n",
                f"{data}/scripts/three": b"#!python3\nprint(1)\n",
                f"{data}/scripts/named": b"#!/usr/bin/env python\nprint(1)\n",
                f"{data}/scripts/dos": b"#!python\r\nprint(1)\r\n",
                f"{data}/scripts/mac": b"#!python\rprint(1)\r",
                f"{data}/scripts/nothing-more": b"#!python -x",
                f"{data}/scripts/long": b"#!python\n" + b"# long\n" * 100_000,
                f"{data}/headers/odd.h": b"h",
                f"{data}/headers/sub/odd.h": b"h",
                f"{data}/data/share/odd/x.txt": b"d",
                f"{data}/data/etc/odd.conf": b"d",
                f"{data}/data/lib/odd.txt": b"d",
                f"{data}/data/{SITE}/inside.py": b"d",
                f"{data}/purelib/pure.py": b"p",
                f"{data}/platlib/plat.py": b"p",
            },
            entry_points="""\
[console_scripts]
odd = odd.cli:main
odd-b = odd.cli:App.run [extra,more]
Odd_Upper = odd  :  main
odd.dotted=odd:main

# a comment
[gui_scripts]
odd-window = odd:window
[other]
x = not a command at all
""",
        ),
        Wheel(
            "odd.names_1",
            version="2.0+local.1",
            tags="py2.py3-none-any",
            files={
                "odd.names_1-2.0+local.1.data/headers/h.h": b"h",
                "odd.names_1-2.0+local.1.data/scripts/twice": b"#!python\n",
                "odd.names_1-2.0+local.1.data/scripts/twice-script.py": b"#!python\n",
                "unlisted.py": Member(b"u", listed=False),
                "unsigned.py": Member(b"u"),
            },
            record={"unsigned.py": ",1"},
            entry_points="  [console_scripts]\n  twice = odd:x\n  more = odd:y\n",
            information={"RECORD.jws": b"j"},
            pure=False,
            record_mode=0o100755,
        ),
        Wheel("pip", version="99", entry_points="[console_scripts]\npip = a:b\npip3 = a:b\npip3.9 = a:b\n"),
    ]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with a python of the sample channel, at its own place."""
    channel = sample_channel_directory().as_uri()
    target = tmp_path_factory.mktemp("environment") / "env"

    async def make() -> None:
        records = await rattler.solve(
            [channel], ["python"], platforms=["linux-64", "noarch"], virtual_packages=rattler.VirtualPackage.detect()
        )
        await rattler.install(records, target, cache_dir=target.with_name("cache"), show_progress=False)

    asyncio.run(make())
    return target


@pytest.fixture
def pristine(environment: Path) -> Iterator[dict[str, Installed]]:
    """What is in the environment before a test, and after it."""
    before = read_tree(environment)
    yield before
    for path in read_tree(environment).keys() - before.keys():
        (environment / path).unlink()


def test_odd_wheels_become_what_uv_makes_of_them(
    environment: Path, pristine: dict[str, Installed], tmp_path: Path
) -> None:
    made = [wheel.write(tmp_path / "wheels") for wheel in make_odd_wheels()]
    assert_alike(environment, pristine, made, tmp_path)
    directories = {str(path.relative_to(environment)) for path in environment.rglob("*") if path.is_dir()}
    contents = WheelFragment(made[0], tmp_path, str(environment)).contents
    assert f"{SITE}/odd/folder/deeper" in contents.directories
    assert set(contents.directories) <= directories
    script = (environment / "bin/odd").read_text()
    assert script.startswith(f"#!{environment}/bin/python\n")


@pytest.mark.services
def test_popular_wheels_become_what_uv_makes_of_them(
    environment: Path, pristine: dict[str, Installed], tmp_path: Path
) -> None:
    names = POPULAR.split() if WIDE else ["certifi", "markupsafe", "websockets"]
    made = [MadeWheel(path, record_wheel(path)) for path in download(names)]
    assert len(made) == len(names)
    assert_alike(environment, pristine, made, tmp_path)


def assert_alike(environment: Path, before: dict[str, Installed], made: list[MadeWheel], tmp_path: Path) -> None:
    after = install_with_uv(environment, [each.path for each in made])
    expected = apply_differences({path: after[path] for path in after.keys() - before.keys()})
    found: dict[str, Installed] = {}
    for each in made:
        found |= WheelFragment(each, tmp_path, str(environment)).files
    assert sorted(found) == sorted(expected)
    # not the files themselves, which may be large
    assert [path for path, file in expected.items() if found[path] != file] == []


def download(names: Sequence[str]) -> list[Path]:
    """Download wheels from PyPI, once; skips the test without it."""
    folder = CACHE / "pypi-wheels"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if not list(folder.glob(f"{name.replace('-', '_')}-*.whl"))]
    if missing:
        command = [*PIP, "download", "--quiet", "--only-binary", ":all:", "--no-deps", "--dest", str(folder), *missing]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"wheels cannot be downloaded: {done.stderr.strip()[-200:]}")
    return [min(folder.glob(f"{name.replace('-', '_')}-*.whl")) for name in names]


def test_times_are_those_of_the_zip(tmp_path: Path) -> None:
    wheel = Wheel(
        files={"a.py": b"", "old.py": Member(b"", date=(1980, 1, 1, 0, 0, 0))},
        entry_points="[console_scripts]\na = a:b",
    )
    times = WheelFragment(wheel.write(tmp_path), tmp_path).times
    assert times[f"{SITE}/a.py"] == TIME
    assert times[f"{SITE}/old.py"] == EARLIEST
    assert times["bin/a"] == times[f"{SITE}/sample-1.0.dist-info/RECORD"] == TIME


def test_the_same_wheel_gives_the_same_bytes(tmp_path: Path) -> None:
    made = make_odd_wheels()[0].write(tmp_path)
    first, second = (WheelFragment(made, tmp_path / name) for name in ("one", "two"))
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.recipe.key == second.recipe.key


def test_a_prefix_that_no_shebang_holds_goes_through_sh(tmp_path: Path) -> None:
    made = Wheel(entry_points="[console_scripts]\na = a:b").write(tmp_path)
    for prefix in ("/opt/" + "x" * 120, "/opt/a b"):
        script = WheelFragment(made, tmp_path, prefix).files["bin/a"].content.decode()
        assert script.startswith(f"#!/bin/sh\n'''exec' '{prefix}/bin/python' \"$0\" \"$@\"\n' '''\n")


def test_in_an_archive_scripts_find_python_themselves(tmp_path: Path) -> None:
    wheel = Wheel(
        files={"sample-1.0.data/scripts/b": b"#!python\nprint(1)\n"}, entry_points="[console_scripts]\na = a:b"
    )
    fragment = WheelFragment(wheel.write(tmp_path), tmp_path, relocatable=True)
    assert fragment.files["bin/a"].content.startswith(b"#!/usr/bin/env python\n")
    assert fragment.files["bin/b"].content == b"#!/usr/bin/env python\nprint(1)\n"
    assert b"/opt/conda" not in b"".join(file.content for file in fragment.files.values())


def test_paths_that_another_package_wins_are_left_out(tmp_path: Path) -> None:
    made = Wheel(files={"a.py": b"", "b.py": b""}, entry_points="[console_scripts]\na = a:b").write(tmp_path)
    fragment = WheelFragment(made, tmp_path, excluded=["bin/a", f"{SITE}/a.py"])
    assert f"{SITE}/b.py" in fragment.files
    assert not {"bin/a", f"{SITE}/a.py"} & fragment.files.keys()


def test_files_that_record_does_not_know_are_installed_and_reported(tmp_path: Path) -> None:
    fragment = WheelFragment(make_odd_wheels()[1].write(tmp_path), tmp_path)
    assert fragment.info.differences == ("unlisted.py is not in its RECORD", "unsigned.py has no hash in its RECORD")
    record = fragment.files[f"{SITE}/odd.names_1-2.0+local.1.dist-info/RECORD"].content
    assert b"\nunlisted.py,,1\n" in record
    assert b"RECORD.jws" not in record


def test_what_a_wheel_says_of_its_own_installation_is_replaced(tmp_path: Path) -> None:
    lies: dict[str, bytes | None] = {"INSTALLER": b"conda\n", "REQUESTED": b"no", "direct_url.json": b"{}"}
    fragment = WheelFragment(Wheel(information=lies).write(tmp_path), tmp_path)
    own = f"{SITE}/sample-1.0.dist-info"
    assert fragment.files[f"{own}/INSTALLER"].content == INSTALLER
    assert fragment.files[f"{own}/REQUESTED"].content == b""
    assert f"{own}/direct_url.json" not in fragment.files
    assert fragment.files[f"{own}/RECORD"].content.count(b"INSTALLER") == 1


def test_a_wheel_and_a_conda_package_of_one_hash_are_two_fragments(tmp_path: Path) -> None:
    fragment = WheelFragment(Wheel().write(tmp_path), tmp_path)
    assert FragmentRecipe("a" * 64, "/opt/conda", wheel=True).key != FragmentRecipe("a" * 64, "/opt/conda").key
    assert fragment.recipe.wheel


def test_a_file_that_is_not_what_record_says_leaves_no_fragment(tmp_path: Path) -> None:
    made = Wheel(files={"a.py": b"one"}, record={"a.py": f"sha256={'A' * 43},3"}).write(tmp_path)
    with pytest.raises(PackageRefused, match=r"'a.py' has the sha256 7692c3ad.*, but 0000.* in its RECORD"):
        WheelFragment(made, tmp_path)
    assert not [path for path in (tmp_path / "fragments").rglob("*") if path.is_file()]
