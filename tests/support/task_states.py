"""Changes the states of task instances and runs in Airflow's database."""

from __future__ import annotations


def set_states(dag_id: str, task_state: str | None, run_state: str) -> None:
    """Set the states of a DAG's task instances and runs in Airflow's database."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        session.query(TaskInstance).filter(TaskInstance.dag_id == dag_id).update({"state": task_state})
        session.query(DagRun).filter(DagRun.dag_id == dag_id).update({"state": run_state})


def forget_runs() -> None:
    """Delete all runs, which other tests have left."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    from airflow_ee_provider.base.stored_values import xcom_table

    with create_session() as session:
        for table in (xcom_table(), TaskInstance.__table__, DagRun.__table__):
            session.execute(table.delete())
