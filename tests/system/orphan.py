"""Makes an orphaned operation: its run is marked failed while no triggerer runs that could cancel it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_ee_provider.tracking.record import OPERATIONS_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dev.standalone import StandaloneAirflow

DAG_ID = "example_earth_engine_cancel_on_kill"


@contextmanager
def without_a_triggerer(airflow: StandaloneAirflow) -> Iterator[None]:
    airflow.kill("triggerer")
    try:
        yield
    finally:
        airflow.start("triggerer")


def held_by_a_deferred_task(airflow: StandaloneAirflow) -> tuple[str, str]:
    """Start a run that waits in the triggerer; return its id, and its operation."""
    airflow.wait_for_dags(DAG_ID)
    run_id = airflow.trigger(DAG_ID)
    airflow.wait_for_task(DAG_ID, run_id, "wait", "deferred")
    return run_id, airflow.xcom(DAG_ID, run_id, "wait", OPERATIONS_KEY)["operation_names"][0]
