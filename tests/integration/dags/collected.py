"""A task whose author wants its operations cancelled with it, as this provider's own tasks write that down."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseOperator

from airflow_ee_provider.tracking.settled import note_settled
from airflow_ee_provider.tracking.store import record_started

ACCOUNT = {"earth_engine_conn_id": "earth_engine_default", "project_id": None, "impersonation_chain": None}


class Own(BaseOperator):
    """Own operations, and say at the end whether there is nothing left of them."""

    def __init__(self, *, settles: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settles = settles

    def execute(self, context: Any) -> None:
        names = dict.fromkeys(context["dag_run"].conf["operation_names"], "")
        record_started(context, names, ACCOUNT, cancel_on=("kill", "failure", "timeout"))
        if self.settles:
            note_settled(context["ti"])


for dag_id, settles in (("owned", False), ("owned_and_settled", True), ("owned_too", False)):
    with DAG(dag_id, schedule=None) as dag:
        Own(task_id="task", settles=settles)
    globals()[dag_id] = dag
