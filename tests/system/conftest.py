from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secret_manager import SecretManager
    from statsd_server import StatsdServer

    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    from matrix import new_emulator

    with new_emulator() as running:
        yield running


@pytest.fixture(scope="session")
def secrets() -> Iterator[SecretManager]:
    from secret_manager import SecretManager

    with SecretManager() as running:
        yield running


@pytest.fixture(scope="session")
def collected() -> Iterator[StatsdServer]:
    """Whatever that Airflow measures."""
    from statsd_server import StatsdServer

    with StatsdServer() as running:
        yield running


@pytest.fixture(scope="session")
def airflow(emulator: Emulator, secrets: SecretManager, collected: StatsdServer) -> Iterator[StandaloneAirflow]:
    """One Airflow for all system tests, with the cells' DAGs and the examples as they are."""
    from matrix import booted

    # Other tests leave orphans, to see who finds them; `test_collector.py` boots one of its own.
    off = {"AIRFLOW__EARTH_ENGINE__CANCEL_ORPHANS": "False"}
    with booted(emulator, more=secrets.settings() | collected.settings() | off) as running:
        yield running
    survivors = [process for process in running.descendants() if process.status() != psutil.STATUS_ZOMBIE]
    assert not survivors, "Processes of the tests' Airflow are still there."
