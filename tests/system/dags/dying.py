"""Tasks that start an export and are killed once, with SIGKILL, between two steps of its start."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_ee_provider.operators.earth_engine import EarthEngineExportOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import Context

STEPS = ("before_the_request", "before_the_answer", "before_the_record", "after_the_record")

#: The processes that are killed: the task's process alone, or also the worker that supervises it.
VICTIMS = ("task", "worker")


def die(victim: str) -> None:
    if victim == "worker":
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def prepare_death(step: str, victim: str, ti: Any) -> None:
    """Make this process die when it reaches the step, if this is the first try."""
    if ti.try_number > 1:
        return
    from airflow_ee_provider.earth_engine.transport import transports
    from airflow_ee_provider.exports import exporting

    def dying(work: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
        def instead(*args: Any, **kwargs: Any) -> Any:
            if after:
                work(*args, **kwargs)
            die(victim)

        return instead

    send = transports.RequestsTransport.send

    def send_and_die(transport: Any, request: Any) -> Any:
        if not request.path.endswith(":export"):
            return send(transport, request)
        return dying(send, after=step == "before_the_answer")(transport, request)

    if step in ("before_the_request", "before_the_answer"):
        transports.RequestsTransport.send = send_and_die  # type: ignore[method-assign]
    elif step == "before_the_record":
        exporting.record_started = dying(exporting.record_started)
    else:
        exporting.record_started = dying(exporting.record_started, after=True)


class DyingExportOperator(EarthEngineExportOperator):
    def __init__(self, *, step: str, victim: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step, self.victim = step, victim

    def execute(self, context: Context) -> list[dict[str, Any]]:
        prepare_death(self.step, self.victim, context["ti"])
        return super().execute(context)


BODY = {
    "description": "{{ dag.dag_id }}",
    "expression": {"result": "0", "values": {"0": {"constantValue": 1}}},
    "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}},
}


def export(step: str, victim: str, ti: Any, dag: Any) -> Any:
    import ee

    prepare_death(step, victim, ti)
    return ee.batch.Export.image.toCloudStorage(ee.Image(1), dag.dag_id, bucket="b", scale=1000)


for when in STEPS:
    for who in VICTIMS:
        # More retries than one kill needs: Airflow itself sometimes loses a try, if it receives a deferral late.
        how: dict[str, Any] = {"task_id": "export", "poll_interval": 1, "retries": 5, "retry_delay": timedelta(0)}
        with DAG(f"dying_operator__{when}__{who}", schedule=None, catchup=False) as made:
            DyingExportOperator(step=when, victim=who, kind="image", body=BODY, **how)
        globals()[made.dag_id] = made
        with DAG(f"dying_decorated__{when}__{who}", schedule=None, catchup=False) as made:
            task.earth_engine(deferrable=True, **how)(export)(when, who)
        globals()[made.dag_id] = made
