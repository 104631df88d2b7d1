from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cells import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.standalone import StandaloneAirflow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.operations import Behaviour
    from airflow_ee_provider.emulator.service import Service

    with Emulator(Service(Behaviour(pending_seconds=1, run_seconds=3600))) as running:
        yield running


@pytest.fixture(scope="session")
def airflow(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneAirflow]:
    """One Airflow for all system tests, with the cells' DAGs and the examples as they are."""
    from airflow_ee_provider.standalone import StandaloneAirflow

    base = tmp_path_factory.mktemp("system")
    dags = base / "dags"
    shutil.copytree(Path(__file__).parent / "dags", dags)
    shutil.copytree(ROOT / "example_dags", dags / "examples")
    connection = {"AIRFLOW_CONN_EARTH_ENGINE_DEFAULT": emulator.airflow_connection(PROJECT)}
    with StandaloneAirflow(base / "airflow", dags, connection) as running:
        yield running
