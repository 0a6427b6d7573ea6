"""What tests of several folders share: the sample channel, real servers, and the rule about missing programs."""

from __future__ import annotations

import os
import shutil
import uuid
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from storage.database.engine import migrate, sqlite_url
from tests.support.sample import sample_channel_directory
from tests.support.server import Server, StartServer
from tests.support.servers.postgres import Postgres
from tests.support.servers.postgres import postgres as run_postgres
from tests.support.servers.s3_gateway import S3Gateway
from tests.support.servers.s3_gateway import s3_gateway as run_s3_gateway
from tests.support.servers.s3_server import S3Server
from tests.support.servers.s3_server import s3_server as run_s3_server
from tests.support.storage.stores import seed_data

CLIENTS_ARE_REQUIRED = os.environ.get("CONDERY_REQUIRE_CLIENTS") == "1"
"""Where every client program and service is installed a test that does not find its own has found nothing out."""


FIRST = (
    "tests/registry/test_no_secret_shows.py",
    "tests/clients/test_slow_build.py",
    "tests/clients/test_conformance.py",
    "tests/registry/faults/test_crashes.py",
    "tests/registry/faults/test_faults.py",
    "tests/clients/conda_store/test_environments.py",
    "tests/registry/cli/test_backup.py",
    "tests/registry/cli/environments/test_server.py",
    "tests/builder/test_equivalence.py",
    "tests/registry/api/test_description.py",
    "tests/registry/faults/test_collection_crashes.py",
    "tests/registry/cli/login/test_login.py",
    "tests/clients/test_login.py",
    "tests/clients/test_pull.py",
    "tests/registry/cli/test_oci_channels.py",
    "tests/clients/conda_store/test_drawn_environments.py",
    "tests/registry/faults/test_soak.py",
    "tests/registry/access/test_accounts.py",
    "tests/registry/cli/test_policy.py",
    "tests/registry/faults/test_full_disk.py",
    "tests/registry/cli/environments/test_page.py",
    "tests/registry/faults/test_outages.py",
    "tests/registry/cli/test_commands_of_pages.py",
    "tests/registry/faults/test_fuzzing.py",
    "tests/registry/cli/environments/test_transfer.py",
    "tests/registry/faults/test_failing_writes.py",
    "tests/clients/test_push.py",
    "tests/registry/cli/environments/test_explain.py",
    "tests/registry/api/environments/test_states.py",
    "tests/clients/conda_store/test_interface.py",
    "tests/registry/upkeep/test_collection.py",
    "tests/storage/garbage/test_crashes.py",
    "tests/storage/garbage/test_model.py",
)
"""Files that take long with few tests: one that began last would run alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put `FIRST` first, then files with many tests; with --no-loadscope-reorder processes get them in this order."""
    tests = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[int, int]:
        early = next((index for index, each in enumerate(FIRST) if item.nodeid.startswith(f"{each}::")), len(FIRST))
        return early, -tests[item.path]

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    needs = any(item.get_closest_marker(name) for name in ("clients", "services"))
    if CLIENTS_ARE_REQUIRED and skipped and needs:
        report.outcome = "failed"
        report.longrepr = f"skipped, though CONDERY_REQUIRE_CLIENTS is set: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if CLIENTS_ARE_REQUIRED and report.skipped and "clients" in collector.path.parts:
        report.outcome = "failed"
        report.longrepr = f"skipped as a whole, though CONDERY_REQUIRE_CLIENTS is set: {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts servers with given flags, over their own data directories unless one is given; stops them at the end.

    Those of their own have a database already, which a server would make in a tenth of the time that it takes to start.
    """
    started: list[Server] = []

    def start(*flags: str, data_dir: Path | None = None, prefix: tuple[str, ...] = ()) -> Server:
        directory = tmp_path_factory.mktemp("server")
        if data_dir is None:
            seed_data(directory / "data")
        server = Server(flags, data_dir or directory / "data", directory / "log", prefix=prefix)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.kill()


@pytest.fixture
def server(start_server: StartServer, sample_channel: Path) -> Server:
    """A server whose one channel is the sample channel."""
    return start_server("--channels", sample_channel.as_uri())


@pytest.fixture(scope="session")
def sample_channel() -> Path:
    """The directory of a real channel with python, numpy, scipy and what else the sample has; made once a machine."""
    return sample_channel_directory()


@pytest.fixture(scope="session")
def _s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with run_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_server(_s3_server: S3Server) -> S3Server:
    """An S3 server that runs when the test begins, whatever the last one did to it. Each test makes its own bucket.

    Tests that use it, or their parameter that does, are marked `services`.
    """
    if not _s3_server.running:
        _s3_server.start()
    return _s3_server


@pytest.fixture(scope="session")
def s3_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Gateway]:
    """Another S3 server, for what rclone's does not do; it runs as long as the tests."""
    with run_s3_gateway(tmp_path_factory.mktemp("s3-gateway")) as server:
        yield server


@pytest.fixture(scope="session")
def _postgres() -> Iterator[Postgres]:
    with run_postgres() as server:
        yield server


@pytest.fixture
def postgres(_postgres: Postgres) -> Postgres:
    """A PostgreSQL that runs when the test begins, whatever the last one did to it. Marked like `s3_server`."""
    if not _postgres.running:
        _postgres.start()
    return _postgres


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """The SQLAlchemy URL of an empty database."""
    return postgres.new_database()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a migrated database of each kind with nothing in it; SQLite's is where the data directory has its own."""
    name = "migrated_postgres" if request.param == "postgresql" else "migrated_sqlite"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
def migrated_sqlite(_migrated_sqlite: Path, tmp_path: Path) -> str:
    shutil.copy(_migrated_sqlite, tmp_path / "condery.sqlite")
    return sqlite_url(tmp_path / "condery.sqlite")


@pytest.fixture
def migrated_postgres(postgres: Postgres, _migrated_postgres: str) -> str:
    name = f"test_{uuid.uuid4().hex}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE {_migrated_postgres}")
    return postgres.url(name)


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "condery.sqlite"
    migrate(sqlite_url(path))
    return path


@pytest.fixture(scope="session")
def _migrated_postgres(_postgres: Postgres) -> str:
    name = f"migrated_{uuid.uuid4().hex}"
    _postgres.execute(f"CREATE DATABASE {name}")
    migrate(_postgres.url(name))
    return name
