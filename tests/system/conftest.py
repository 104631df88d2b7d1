from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from secret_manager import SecretManager
    from statsd_server import StatsdServer

    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the modules with a ``begin`` at the end, and ``test_what_was_written`` last."""
    items.sort(key=lambda item: (item.path.stem == "test_what_was_written", hasattr(_module(item), "begin")))


def _module(item: pytest.Item) -> Any:
    return getattr(item, "module", None)


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    from booting import new_emulator

    with new_emulator() as running:
        yield running


@pytest.fixture(scope="session")
def secrets() -> Iterator[SecretManager]:
    from secret_manager import SecretManager

    with SecretManager() as running:
        yield running


@pytest.fixture(scope="session")
def collected() -> Iterator[StatsdServer]:
    """The metrics that the tests' Airflow sends."""
    from statsd_server import StatsdServer

    with StatsdServer() as running:
        yield running


@pytest.fixture(scope="session")
def begun() -> dict[str, Future[Any]]:
    """The results of the modules' ``begin`` functions, which are called once Airflow has booted; by module."""
    return {}


@pytest.fixture(scope="session")
def airflow(
    request: pytest.FixtureRequest,
    emulator: Emulator,
    secrets: SecretManager,
    collected: StatsdServer,
    begun: dict[str, Future[Any]],
) -> Iterator[StandaloneAirflow]:
    """One Airflow for all system tests, with their cells' DAGs and the unchanged examples.

    A module whose runs take minutes has a function ``begin``, which starts them once Airflow has booted.
    """
    from booting import booted

    own = {
        # Other tests leave orphans on purpose; `test_collector.py` has an Airflow of its own.
        "AIRFLOW__EARTH_ENGINE__CANCEL_ORPHANS": "False",
        "LIFECYCLE_DAGS": " ".join(_cells(request.session.items)),
        # Parsing all DAGs takes a core 20 s; a changed file is parsed at once.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
    }
    beginning = {module for item in request.session.items if hasattr(module := _module(item), "begin")}
    with booted(emulator, more=secrets.settings() | collected.settings() | own) as running:
        pool = ThreadPoolExecutor(len(beginning) or 1)
        begun |= {module.__name__: pool.submit(module.begin, running, emulator) for module in beginning}
        yield running
        pool.shutdown(wait=False, cancel_futures=True)
    survivors = [process for process in running.descendants() if process.status() != psutil.STATUS_ZOMBIE]
    assert not survivors, "Processes of the tests' Airflow are still there."


@pytest.fixture(scope="session")
def collected_emulator() -> Iterator[Emulator]:
    from booting import new_emulator

    with new_emulator() as running:
        yield running


@pytest.fixture(scope="session")
def collected_airflow(
    collected_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StandaloneAirflow]:
    """One Airflow whose collector is switched on, as by default, with the DAGs of the modules that use it."""
    from booting import STANDALONE
    from matrix_cells import PROJECT
    from tokens import TokenServer

    base, here = tmp_path_factory.mktemp("collector"), Path(__file__).parent
    (base / "dags").mkdir()
    for file in ("dags_alone/collected.py", "dags/many.py"):
        shutil.copy(here / file, base / "dags")
    with TokenServer() as tokens:
        connection = tokens.airflow_connection(collected_emulator.url, PROJECT)
        settings = {
            "AIRFLOW__EARTH_ENGINE__ALLOWED_HOSTS": "127.0.0.1",
            "AIRFLOW_CONN_EARTH_ENGINE_DEFAULT": connection,
        }
        with STANDALONE(base / "airflow", base / "dags", settings) as running:
            print(f"Airflow is up; its home is {running.home}", flush=True)
            # In the database, as in production: the triggerer's process has to find it there.
            of_database = json.loads(connection)
            body = {**of_database, "connection_id": "in_the_database", "extra": json.dumps(of_database["extra"])}
            running.call("POST", "/connections", body)
            yield running


def _cells(tests: list[pytest.Item]) -> set[str]:
    """Return the cells of the matrix that the tests need: other DAGs would be parsed repeatedly for nothing."""
    parameters = [test.callspec.params for test in tests if hasattr(test, "callspec")]
    return {f"{how['holder']}__{how.get('event', 'left_alone')}" for how in parameters if "holder" in how}
