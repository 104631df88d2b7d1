"""What tasks have recorded, read from Airflow's own database.

The API server and the command line may; a task of Airflow 3 may not, and asks the API server (`remote`).
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.base.stored_values import or_error, xcom_backend
from airflow_ee_provider.earth_engine.auth.settings import comma_separated
from airflow_ee_provider.hooks.connection import CONFIG_SECTION
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.tracking.holders import Holder, Holding
from airflow_ee_provider.tracking.record import OPERATIONS_KEY, Record, read_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

log = logging.getLogger(__name__)

#: What names a task instance: the columns that XComs, stored states and task instances have in common.
_INSTANCE = ("dag_id", "run_id", "task_id", "map_index")


def read_holdings(since: datetime) -> list[Holding]:
    """Return what task instances have recorded, each with its present state.

    Reads two tables, or three from Airflow 3.3 on: what has been recorded since then, whatever the number of DAGs.

    :param since: records made before that are not read.
    """
    from airflow.utils.session import create_session

    names: defaultdict[Holder, dict[str, None]] = defaultdict(dict)
    with create_session() as session:
        for row, values in (*_by_instance(_xcoms(session, since)), *_by_instance(_stored(session, since))):
            try:
                parts = read_parts(values.get)
            except Exception as error:  # noqa: BLE001 (an XCom backend raises what it likes; it must not cost the others)
                log.warning("What %s.%s has recorded cannot be read: %s", row.dag_id, row.task_id, error)
                continue
            for part in parts:
                names[_holder(row, part)].update(dict.fromkeys(part.operation_names))
    return [Holding(holder, tuple(held)) for holder, held in names.items()]


def _by_instance(rows: Iterable[tuple[Any, Any]]) -> Iterable[tuple[Any, dict[str, Any]]]:
    """Return what each task instance has recorded: one of its rows, and its values by their keys."""
    found: dict[tuple[Any, ...], tuple[Any, dict[str, Any]]] = {}
    for row, value in rows:
        instance = tuple(getattr(row, name) for name in _INSTANCE)
        found.setdefault(instance, (row, {}))[1][row.key] = value
    return found.values()


def visible_connections() -> list[str]:
    """Return the ids of the connections whose operations are shown to people.

    ``[earth_engine] connections`` says which; by default ``earth_engine_default`` and all others of our type that
    Airflow's database knows.
    """
    from airflow.models.connection import Connection
    from airflow.providers.common.compat.sdk import conf
    from airflow.utils.session import create_session

    if configured := comma_separated(conf.get(CONFIG_SECTION, "connections", fallback="")):
        return list(configured)
    with create_session() as session:
        query = session.query(Connection.conn_id).filter(Connection.conn_type == EarthEngineHook.conn_type)
        return list(dict.fromkeys([EarthEngineHook.default_conn_name, *sorted(row.conn_id for row in query)]))


def _holder(row: Any, record: Record) -> Holder:
    return Holder(
        dag_id=row.dag_id,
        run_id=row.run_id,
        task_id=row.task_id,
        map_index=row.map_index,
        try_number=row.try_number or 0,
        task_state=_word(row.task_state),
        run_state=_word(row.run_state),
        ownership=record.ownership,
        dag_owners=comma_separated(row.owners),
        triggered_by=getattr(row, "triggering_user_name", None),
    )


def _word(state: Any) -> str | None:
    return None if state is None else str(getattr(state, "value", state))


def _xcoms(session: Any, since: datetime) -> Iterator[tuple[Any, Any]]:
    if AIRFLOW_3:
        from airflow.models.xcom import XComModel as Model
    else:
        from airflow.models.xcom import BaseXCom as Model  # type: ignore[no-redef]
    backend = xcom_backend()
    for row in _with_states(session, Model, Model.timestamp >= since):
        yield row, or_error(backend.deserialize_value, row)


def _stored(session: Any, since: datetime) -> Iterator[tuple[Any, Any]]:
    """Yield what Airflow's task_state_store has: a task's XComs are gone when its next try begins."""
    if find_spec("airflow.models.task_state_store") is None:
        return
    from airflow.models.task_state_store import TaskStateStoreModel as Model

    for row in _with_states(session, Model, Model.updated_at >= since):
        yield row, or_error(json.loads, row.value)


def _with_states(session: Any, model: Any, condition: Any) -> Iterable[Any]:
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import and_

    columns = [
        *(getattr(model, column) for column in (*_INSTANCE, "key")),
        model.value,
        TaskInstance.state.label("task_state"),
        TaskInstance.try_number.label("try_number"),
        DagRun.state.label("run_state"),
        DagModel.owners.label("owners"),
    ]
    if hasattr(DagRun, "triggering_user_name"):
        columns.append(DagRun.triggering_user_name)
    instance = and_(*(getattr(TaskInstance, column) == getattr(model, column) for column in _INSTANCE))
    query = session.query(*columns).select_from(model).join(TaskInstance, instance)
    query = query.join(DagRun, and_(DagRun.dag_id == model.dag_id, DagRun.run_id == model.run_id))
    query = query.outerjoin(DagModel, DagModel.dag_id == model.dag_id)
    found: Iterable[Any] = query.filter(model.key.startswith(OPERATIONS_KEY, autoescape=True), condition)
    return found
