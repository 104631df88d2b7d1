"""Record the operations of a task before the task waits for them, and read its records.

Airflow deletes XComs when the next try begins. So the parts of a record (see `airflow_ee_provider.tracking.record`) are
also written to a store that the next try can read (see `airflow_ee_provider.tracking.retry_memory`).

The first start of a task is recorded at once. Further parallel starts are recorded twice a second, and all of them
before the task waits. Starts that a function makes one by one are recorded while it makes the next one
(`airflow_ee_provider.exports.recorder`). If a process dies before it has recorded its last starts, the next try sends
them again with the same ``requestId``, and gets the operations' names.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_ee_provider.base.airflow_versions import HAS_TASK_STATE_STORE
from airflow_ee_provider.base.parameters import CONNECTION_FIELDS
from airflow_ee_provider.base.stored_values import xcom
from airflow_ee_provider.earth_engine.model.errors import InvalidOperationNameError
from airflow_ee_provider.tracking.record import (
    OPERATIONS_KEY,
    PART,
    RESUMED,
    TRY_KEY,
    Ownership,
    Record,
    RecordedItem,
    item_of,
    items_of,
    label_of,
    map_index_of,
    part_key,
    read_parts,
    texts_of,
)
from airflow_ee_provider.tracking.retry_memory import memory_to_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.operation_names import OperationName

#: Threads of a function can record at the same time, and each adds to the same record.
_RECORDING = threading.Lock()

#: The record that this process has last written or read.
_written: _Written | None = None


def record_operations(
    context: Context,
    names: str | OperationName | Iterable[str | OperationName],
    *,
    earth_engine_conn_id: str | None = "",
    project_id: str | None = None,
    impersonation_chain: str | Sequence[str] | None = None,
    ownership: str = "owner",
) -> list[str]:
    """Record that operations belong to this task, in addition to those that it recorded before.

    Call it as soon as you know a name. Notifiers, teardowns, the page and the collector find recorded operations.
    Airflow deletes the task's XComs when the task is cleared or retried; Airflow 3.3's ``task_state_store`` keeps the
    names, and before 3.3 an Airflow Variable does.

    :param context: The running task's context.
    :param names: One name or several, ``projects/PROJECT/operations/ID``, or an id of ``project_id`` or of the
        connection's project.
    :param earth_engine_conn_id: The connection that started the operations, and that cancels them. By default, the
        notifier or operator that cancels them uses its own connection.
    :param project_id: The Cloud project of the operations, if it is not the connection's.
    :param impersonation_chain: One service account, or a chain of them; the last one started the operations.
    :param ownership: ``owner`` if no other task needs them once this task has failed or its run has ended;
        ``handed_off`` if they keep running unless the run fails; ``observer`` if they belong to another task;
        ``canceller`` if the task only cancels them.
    :return: All names that this try of the task has recorded.
    :raises InvalidOperationNameError: If one is not an operation's name, or is an id without a known project. Nothing
        is recorded then.
    :raises ValueError: If ``ownership`` is another word. Nothing is recorded then.
    """
    account = None
    if earth_engine_conn_id != "":
        chain = impersonation_chain if isinstance(impersonation_chain, str) else list(impersonation_chain or ()) or None
        values = (earth_engine_conn_id, project_id, chain)
        account = dict(zip(CONNECTION_FIELDS, values, strict=True))
    parts = _record(context, dict.fromkeys(_full_names(names, account, project_id), ""), account, ownership)
    return [name for part in parts for name in part.operation_names]


def record_started(
    context: Context,
    started: Mapping[str, str],
    account: dict[str, Any] | None,
    ownership: str = Ownership.OWNER,
    cancel_on: tuple[str, ...] | None = None,
    *,
    block: int = 0,
) -> None:
    """Record the operations of a task of this package, each with its `Start.key`.

    :param started: The operations, each with its key. The key is empty if the task has not started the operation.
    :param cancel_on: See `cancel_on_of`.
    :param block: See `label_of`.
    """
    labelled = {name: label_of(key, block) for name, key in started.items()}
    _record(context, labelled, account, ownership, cancel_on)


def recorded_with_keys(context: Context, *, again: bool = False) -> list[tuple[str, str]]:
    """Return all operations that this try has recorded, each with its `Start.key`.

    :param again: Read again, although this process knows the record, because the author's code may have recorded more
        operations in another process, or another try may have begun.
    :raises AirflowException: If another try has begun.
    """
    return [(item.name, item.key) for item in recorded_items(context, again=again)]


def recorded_items(context: Context, *, again: bool = False, at_end: bool = False) -> list[RecordedItem]:
    """Return the same as `recorded_with_keys`, with all that is recorded about each operation.

    :param at_end: Do not raise if another try continues with the same operations: its result will be the same.
    """
    known = _written  # Another thread may change it.
    is_known = not again and known is not None and known.ti is item_of(context, "ti")
    return items_of((known if known is not None and is_known else _written_so_far(context, at_end=at_end)).parts)


def recorded_by_process(ti: Any) -> list[str]:
    """Return the operations of which this process knows that a task instance has recorded them; no request is sent.

    It does not include failed operations that were started again.
    """
    known = _written
    if known is None or known.ti is not ti:
        return []
    return _latest([(item.name, item.key) for item in items_of(known.parts)])


def started_by_task(context: Context, *, at_end: bool = False) -> dict[str, str]:
    """Return the latest operation of each `Start.key` that this try has started or continues with."""
    return {item.key: item.name for item in recorded_items(context, again=at_end, at_end=at_end) if item.key}


def needed_by_task(context: Context) -> list[str]:
    """Return the operations that this try has recorded, except failed ones that were started again."""
    return _latest(recorded_with_keys(context))


def _latest(recorded: list[tuple[str, str]]) -> list[str]:
    latest = {key: name for name, key in recorded if key}
    return [name for name, key in recorded if latest.get(key, name) == name]


def _full_names(names: Any, account: dict[str, Any] | None, project: str | None) -> tuple[str, ...]:
    try:
        return texts_of(names, project)
    except InvalidOperationNameError:
        if account is None or project:
            raise
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

    return texts_of(names, EarthEngineHook(**account).account.default_project)


@dataclass
class _Written:
    """A task instance's record: its parts, and the operations' names in them."""

    ti: Any
    parts: list[Record]
    names: set[str]


def _record(
    context: Context,
    operations: Mapping[str, str],
    account: dict[str, Any] | None,
    ownership: str = Ownership.OWNER,
    cancel_on: tuple[str, ...] | None = None,
) -> list[Record]:
    """Record operations, each with its `label_of`, and return all parts of the record."""
    global _written  # noqa: PLW0603
    empty = Record.of_task(context, account, ownership, cancel_on)
    with _RECORDING:
        written, _written = _written_so_far(context), None  # If a write fails, the record is read again.
        if new := {name: key for name, key in operations.items() if name not in written.names}:
            _add(context, written.parts, new, empty)
            written.names.update(new)
        _written = written
        return written.parts


def _add(context: Context, parts: list[Record], new: Mapping[str, str], empty: Record) -> None:
    """Add operations to the last part, as long as they fit, and to further parts.

    A part that moves is written before the last part refers to it, so that a reader always finds all parts.
    """
    number, items = len(parts), list(new.items())
    if not parts:
        ti = item_of(context, "ti")
        ti.xcom_push(key=TRY_KEY, value=ti.try_number)
    elif parts[-1].is_like(empty):
        items = [*parts.pop().with_labels(), *items]
    for begin in range(0, len(items), PART):
        names, keys = zip(*items[begin : begin + PART], strict=True)
        parts.append(replace(empty, operation_names=names, start_keys=keys, parts_before=len(parts)))
    for moved in range(max(number, 1), len(parts)):
        _write(context, part_key(moved), parts[moved - 1])
    _write(context, OPERATIONS_KEY, parts[-1])


def _written_so_far(context: Context, *, at_end: bool = False) -> _Written:
    """Return what this try has recorded. If this process knows the record, it reads only the last part to check it.

    :raises AirflowException: If another try has begun. Its record must not be changed.
    """
    global _written  # noqa: PLW0603 (what this process has written or read last)
    ti = item_of(context, "ti")
    known = _written if _written is not None and _written.ti is ti else None
    value = read_own(context, OPERATIONS_KEY)
    if known and known.parts and value == known.parts[-1].as_json():
        return known
    last = None if value is None else Record.from_json(value)
    if known and last and is_of_earlier_try(last, ti):
        # An earlier try, whose worker was frozen, has overwritten the record. Only this process still knows the parts.
        if known.parts:
            _write(context, OPERATIONS_KEY, known.parts[-1])
        return known
    parts = read_parts(lambda key: value if key == OPERATIONS_KEY else read_own(context, key))
    names = {name for part in parts for name in part.operation_names}
    # Airflow deletes a try's records when the next try begins.
    is_gone = known is not None and not known.names <= names
    if is_gone or (last and is_of_later_try(last, ti)):
        if at_end and known and known.names == names:
            return known
        raise AirflowException("Another try of this task has begun; this one ends.")
    _written = _Written(ti, parts, names)
    return _written


def _write(context: Context, key: str, part: Record) -> None:
    item_of(context, "ti").xcom_push(key=key, value=part.as_json())
    if HAS_TASK_STATE_STORE or part.ownership in RESUMED:
        remember(context, key, part.as_json())  # Variables only have operations that a try can resume.


def remember(context: Context, key: str, value: Any) -> None:
    """Store a value for the next try, if there is a store that the next try can read."""
    if (memory := memory_to_write(context)) is not None:
        memory.set(key, value)


def records_of_task(context: Context) -> list[Record]:
    """Return the parts that the context's task instance has recorded in this try."""
    return read_parts(lambda key: read_own(context, key))


def read_own(context: Context, key: str) -> Any:
    """Return an XCom of the context's task instance; None if it has none under that key."""
    ti = item_of(context, "ti")
    # Without these ids, Airflow 2.11 would return an XCom of any task of the run.
    return ti.xcom_pull(task_ids=ti.task_id, map_indexes=map_index_of(ti), key=key)


def operations_of_a_later_try(ti: Any) -> set[str]:
    """Return the operations of a task instance's later try, which has begun although this try's process still runs."""

    def read(key: str) -> Any:
        return xcom(key, ti.dag_id, ti.run_id, ti.task_id, map_index_of(ti))

    last = read(OPERATIONS_KEY)
    if last is None or not is_of_later_try(Record.from_json(last), ti):
        return set()
    return {name for part in read_parts(read) for name in part.operation_names}


def is_of_later_try(part: Record, ti: Any) -> bool:
    """Whether a later try than that of this task instance's process has recorded a part."""
    return is_later(part.try_number, ti)


def is_later(try_number: int | None, ti: Any) -> bool:
    """Whether a try's number is larger than that of a task instance's process."""
    return try_number is not None and bool(try_number > ti.try_number)


def is_of_earlier_try(part: Record, ti: Any) -> bool:
    """Whether an earlier try than that of this task instance's process has recorded a part; it may still run."""
    return part.try_number is not None and bool(part.try_number < ti.try_number)


def operations_of_task(context: Context) -> list[str]:
    """Return the operations that the context's task instance has recorded in this try."""
    return [name for part in records_of_task(context) for name in part.operation_names]
