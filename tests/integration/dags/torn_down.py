"""DAGs whose teardown, ``task``, cancels the operations that the run's other tasks have recorded."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_ee_provider.earth_engine.protocol import waiting
from airflow_ee_provider.operators.earth_engine import EarthEngineCancelOperationsOperator
from airflow_ee_provider.records import record_operations

waiting.SHORTEST_POLL_INTERVAL = 0.0  # For tests, also in separate processes.

for place, deferrable in (("worker", False), ("triggerer", True)):
    with DAG(f"tear_down_in_{place}", schedule=None) as dag:

        @task
        def all_but_two(**context: Any) -> list[str]:
            names: list[str] = context["dag_run"].conf["operation_names"]
            record_operations(context, names[2:])
            return names[:2]

        @task
        def one(name: str, **context: Any) -> None:
            record_operations(context, name)

        @task
        def fail() -> None:
            raise ValueError("The exports are not wanted any more.")

        clean_up = EarthEngineCancelOperationsOperator(task_id="task", poll_interval=0.2, deferrable=deferrable)
        one.expand(name=all_but_two()) >> fail() >> clean_up.as_teardown()
    globals()[dag.dag_id] = dag

    with DAG(f"cancel_nothing_in_{place}", schedule=None) as dag:

        @task(task_id="nothing", multiple_outputs=False)
        def nothing() -> None:
            """Return no operation names."""

        EarthEngineCancelOperationsOperator(task_id="task", operation_names=nothing(), deferrable=deferrable)
    globals()[dag.dag_id] = dag
