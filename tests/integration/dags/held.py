"""Tasks that record operations as their owner, as handed off, as an observer or as a canceller."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseOperator

from airflow_ee_provider.earth_engine.protocol import waiting
from airflow_ee_provider.operators.earth_engine import EarthEngineCancelStaleOperationsOperator
from airflow_ee_provider.records import record_operations

waiting.SHORTEST_POLL_INTERVAL = 0.0  # For tests, also in separate processes.


class Hold(BaseOperator):
    """A task that records operations in its own code."""

    def __init__(self, *, ownership: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ownership = ownership

    def execute(self, context: Any) -> None:
        record_operations(context, context["dag_run"].conf["operation_names"], ownership=self.ownership)


for ownership in ("owner", "handed_off", "observer", "canceller"):
    with DAG(f"held_{ownership}", schedule=None, default_args={"owner": "ada"}) as dag:
        Hold(task_id="task", ownership=ownership)
    globals()[dag.dag_id] = dag

for dag_id, conn_id in (("tidy_orphans", "airflow_api"), ("tidy_orphans_without_a_connection", None)):
    with DAG(dag_id, schedule=None) as dag:
        EarthEngineCancelStaleOperationsOperator(
            task_id="task", orphaned=True, airflow_conn_id=conn_id, poll_interval=0.2, cancel_timeout=10
        )
    globals()[dag_id] = dag
