"""Boots the running interpreter's Airflow, for the system tests and the measurements."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from airflow import __version__ as airflow_version
from airflow_2 import StandaloneAirflow2
from matrix_cells import PROJECT
from production import ProductionAirflow, ProductionAirflow2
from tokens import TokenServer

from airflow_ee_provider.emulator import Emulator
from airflow_ee_provider.emulator.operations import Behaviour
from airflow_ee_provider.emulator.service import Service
from dev.standalone import StandaloneAirflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

IS_AIRFLOW_2 = airflow_version.startswith("2.")
#: Two kinds of Airflow: on SQLite, with one process of each part; and as in production.
STANDALONE: type[StandaloneAirflow] = StandaloneAirflow2 if IS_AIRFLOW_2 else StandaloneAirflow
PRODUCTION: type[ProductionAirflow] = ProductionAirflow2 if IS_AIRFLOW_2 else ProductionAirflow

A = TypeVar("A", bound=StandaloneAirflow)

#: Airflow detects a lost worker by its missing heartbeats: after five minutes by default, here sooner.
QUICK_HEARTBEATS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "5",
    # The same in Airflow 2.
    "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "40",
    "AIRFLOW__SCHEDULER__ZOMBIE_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__LOCAL_TASK_JOB_HEARTBEAT_SEC": "5",
}


@contextmanager
def booted(
    emulator: Emulator,
    *,
    object_store: bool = False,
    more: Mapping[str, str] | None = None,
    airflow_class: type[A] = STANDALONE,  # type: ignore[assignment]
) -> Iterator[A]:
    """Boot the running interpreter's Airflow, with the cells' DAGs and the examples.

    :param object_store: keep XComs in an object store, with a custom backend.
    :param more: additional settings.
    :param airflow_class: the kind of Airflow: ``PRODUCTION``, for example.
    """
    base = Path(tempfile.mkdtemp(prefix="airflow-ee-system-"))
    here = Path(__file__).parent
    shutil.copytree(here / "dags", base / "dags")
    shutil.copytree(here.parents[1] / "example_dags", base / "dags" / "examples")
    with TokenServer() as tokens:  # With google-auth's own flow, so that there are secrets to protect.
        connection = {
            "AIRFLOW_CONN_EARTH_ENGINE_DEFAULT": tokens.airflow_connection(emulator.url, PROJECT),
            "AIRFLOW__EARTH_ENGINE__ALLOWED_HOSTS": "127.0.0.1",
        }
        stored = {
            "AIRFLOW__CORE__XCOM_BACKEND": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": (base / "xcoms").as_uri(),
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "0",
        }
        support = here.parent / "support"
        paths = {"PYTHONPATH": os.pathsep.join(map(str, (here, support, os.environ.get("PYTHONPATH", ""))))}
        settings = QUICK_HEARTBEATS | connection | paths | (stored if object_store else {}) | dict(more or {})
        made = airflow_class(base / "airflow", base / "dags", settings)
        # Airflow 3's janitor asks this API which task holds which operation.
        made.environment["AIRFLOW_CONN_AIRFLOW_API"] = json.dumps({"conn_type": "http", "host": made.url})
        with made as airflow:
            print(f"Airflow {airflow_version} is up at {airflow.url}; its home is {airflow.home}", flush=True)
            yield airflow
    shutil.rmtree(base, ignore_errors=True)  # After an error, the folder is kept.


def new_emulator() -> Emulator:
    """Make the Earth Engine emulator of the system tests."""
    return Emulator(Service(Behaviour(pending_seconds=1, run_seconds=3600)))


def keep_evidence(airflow: StandaloneAirflow, service: Service) -> None:
    """Copy the evidence for a failure: Airflow's home, and the requests to Earth Engine."""
    kept = Path(tempfile.mkdtemp(prefix="airflow-ee-evidence-"))
    print(f"Something is wrong: the logs are in {kept}", flush=True)
    shutil.copytree(airflow.home, kept / "airflow", ignore_dangling_symlinks=True)
    (kept / "journal.json").write_text(json.dumps(service.journal, indent=1), encoding="utf-8")
