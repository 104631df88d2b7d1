"""Read and write XComs and Variables, in the same way in all versions of Airflow."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3


def xcom(key: str, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Any:
    """Return the value of an XCom from the configured XCom backend; None if there is no such XCom."""
    return xcom_backend().get_one(key=key, dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)


def set_xcom(key: str, value: Any, ti: Any) -> None:
    """Write an XCom of a task instance, also from the triggerer."""
    of = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
    xcom_backend().set(key=key, value=value, **of)


def variable(key: str) -> str | None:
    """Return the text of an Airflow Variable; None if there is none. On Airflow 2, only the database is read."""
    if AIRFLOW_3:
        from airflow.sdk import Variable

        found: str | None = Variable.get(key, default=None)
        return found
    from airflow.models.variable import Variable as Model
    from airflow.utils.session import create_session

    with create_session() as session:
        row: Any = session.query(Model).filter(Model.key == key).one_or_none()
        text: str | None = row.get_val() if row else None
    return text


def set_variable(key: str, text: str, description: str) -> None:
    """Write an Airflow Variable."""
    if AIRFLOW_3:
        from airflow.sdk import Variable

        Variable.set(key, text, description)
        return
    from airflow.models.variable import Variable as Model
    from airflow.utils.session import create_session

    with create_session() as session:
        session.query(Model).filter(Model.key == key).delete()
        session.add(Model(key=key, val=text, description=description))


def delete_variable(key: str) -> None:
    """Delete an Airflow Variable, if it exists."""
    if AIRFLOW_3:
        from airflow.sdk import Variable

        Variable.delete(key)
        return
    from airflow.models.variable import Variable as Model
    from airflow.utils.session import create_session

    with create_session() as session:
        session.query(Model).filter(Model.key == key).delete()


def xcom_backend() -> Any:
    """Return the class that ``[core] xcom_backend`` names."""
    # `BaseXCom` would return the data that a custom backend stores instead of the value, such as an object's path.
    return import_module("airflow.sdk.execution_time.xcom" if AIRFLOW_3 else "airflow.models.xcom").XCom


def xcom_table() -> Any:
    """Return the SQLAlchemy table to which Airflow writes XComs. From Airflow 3.4 on, each XCom belongs to a try."""
    from airflow.models import xcom as module

    names = ("XComModelV2", "XComModel", "BaseXCom")
    return next(getattr(module, name) for name in names if hasattr(module, name)).__table__


def earlier_xcoms() -> Any:
    """Return a subquery for the XComs that were written before an upgrade to Airflow 3.4; None before 3.4."""
    from airflow.models import taskinstance, xcom
    from sqlalchemy import and_, select

    if (model := getattr(taskinstance, "LegacyTaskDataOwner", None)) is None:
        return None
    owner, table = model.__table__.c, xcom.XComModelV1.__table__.c
    is_its_own = and_(*(owner[name] == table[name] for name in ("dag_id", "run_id", "task_id", "map_index")))
    columns = (table[name] for name in ("dag_run_id", "task_id", "key", "value", "timestamp"))
    return select(owner.task_instance_id, *columns).where(is_its_own).subquery("xcom_v1")


def task_store_table() -> Any:
    """Return the SQLAlchemy table of Airflow's ``task_state_store``; None before Airflow 3.3."""
    if find_spec("airflow.models.task_state_store") is None:
        return None
    from airflow.models.task_state_store import TaskStateStoreModel

    return TaskStateStoreModel.__table__


def or_error(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Return the result of a call, or the exception that it raises. An XCom backend may raise any exception."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001
        return error
