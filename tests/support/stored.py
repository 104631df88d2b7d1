"""Checks and deletes the records of tasks in Airflow's database, whichever tables the Airflow version has."""

from __future__ import annotations

from airflow_ee_provider.base.stored_values import task_store_table, xcom_table


def delete_xcoms() -> None:
    """Delete all XComs, as Airflow does with a task's when its next try begins."""
    from airflow.utils.session import create_session

    with create_session() as session:
        session.execute(xcom_table().delete())


def has_stored() -> bool:
    """Whether Airflow's task_state_store has anything; before 3.3, there is none."""
    from airflow.utils.session import create_session

    if (table := task_store_table()) is None:
        return False
    with create_session() as session:
        return session.execute(table.select()).first() is not None


def forget_what_is_stored() -> None:
    """Delete the task_state_store, so that only XComs have records, as before 3.3 and after an upgrade to 3.3."""
    from airflow.utils.session import create_session

    if (table := task_store_table()) is not None:
        with create_session() as session:
            session.execute(table.delete())
