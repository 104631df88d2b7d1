"""Tasks that record operations with ``cancel_on``, as this provider's own tasks do."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseOperator

from airflow_ee_provider.tracking.notes import note_settled
from airflow_ee_provider.tracking.store import record_started

ACCOUNT = {"earth_engine_conn_id": "earth_engine_default", "project_id": None, "impersonation_chain": None}


class Own(BaseOperator):
    """Record operations as their owner and, with ``settles``, note that they are settled."""

    def __init__(self, *, settles: bool, cancel_on: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settles, self.cancel_on = settles, cancel_on

    def execute(self, context: Any) -> None:
        names = dict.fromkeys(context["dag_run"].conf["operation_names"], "")
        record_started(context, names, ACCOUNT, cancel_on=self.cancel_on)
        if self.settles:
            note_settled(context["ti"])


ALL_ENDS = ("kill", "failure", "timeout")

for dag_id, settles, cancel_on in (
    ("owned", False, ALL_ENDS),
    ("owned_and_settled", True, ALL_ENDS),
    ("owned_too", False, ALL_ENDS),
    ("owned_until_killed", False, ("kill",)),
):
    with DAG(dag_id, schedule=None) as dag:
        Own(task_id="task", settles=settles, cancel_on=cancel_on)
    globals()[dag_id] = dag
