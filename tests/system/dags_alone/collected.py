"""Tasks that end between two tries, when none of their code runs: only the collector can cancel their operations."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowException, task

#: A connection in Airflow's database, as in production.
CONNECTION = "in_the_database"

ENDS: dict[str, dict[str, Any]] = {
    "task_marked_failed": {},
    "task_cleared_while_paused": {},
    "run_marked_failed": {},
    "dagrun_timeout": {"dagrun_timeout": timedelta(seconds=150)},
    "fail_fast": {"fail_fast": True},
    "nothing": {},
    "success": {},
}

for end, of_dag in ENDS.items():
    if end == "fail_fast":
        try:
            DAG("parsed", schedule=None, **of_dag)
        except TypeError:  # The name in Airflow 2.
            of_dag = {"fail_stop": True}  # noqa: PLW2901
    with DAG(f"collected_{end}", schedule=None, catchup=False, **of_dag) as dag:

        @task.earth_engine(
            task_id="hold",
            retries=3,
            retry_delay=timedelta(hours=1),
            poll_interval=1,
            earth_engine_conn_id=CONNECTION,
        )
        def hold(dag_run: Any) -> Any:
            from airflow_ee_provider.earth_engine.model.operation_names import OperationName

            return OperationName.parse_all(dag_run.conf["operation_names"])

        hold()
        if end == "fail_fast":

            @task(task_id="sibling")
            def sibling(dag_run: Any) -> None:
                import time

                from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

                hook = EarthEngineHook(CONNECTION)
                while not hook.get_operation(dag_run.conf["until"]).done:
                    time.sleep(1)
                raise AirflowException("This ends the run.")

            sibling()
    globals()[dag.dag_id] = dag
