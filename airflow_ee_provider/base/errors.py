"""Convert errors and failed operations of Earth Engine to exceptions that Airflow retries, or does not retry."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException

from airflow_ee_provider.base.process import is_a_task_test
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
from airflow_ee_provider.earth_engine.model.log_text import truncated_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_ee_provider.earth_engine.model.results import OperationDict
    from airflow_ee_provider.earth_engine.protocol.waiting import WaitOptions
    from airflow_ee_provider.earth_engine.transport.drivers import Log


#: The field of a trigger's event that reports that the trigger could not open its connection, and so did not wait.
CANNOT_BEGIN = "cannot_begin"


@contextmanager
def log_errors(log: Log) -> Iterator[None]:
    """Log an error instead of raising it, so that it does not hide the error that caused the cancel."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (Airflow and its backends may raise any exception)
        log.error("Earth Engine operations could not be cancelled and may still run: %s", error)  # noqa: TRY400


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Convert Earth Engine errors to Airflow exceptions. Airflow does not retry the task after a permanent error."""
    try:
        yield
    except EarthEngineError as error:
        raise airflow_exception(str(error), permanent=error.permanent) from error


def airflow_exception(message: str, *, permanent: bool) -> AirflowException:
    """Return an exception. Airflow retries the task after it, unless the error is permanent."""
    return AirflowFailException(message) if permanent else AirflowException(message)


def is_final(error: BaseException, ti: Any) -> bool:
    """Whether Airflow 2 starts no other try of the task after an error. Airflow 2 has no retry policies."""
    return isinstance(error, (AirflowFailException, AirflowSkipException)) or not has_tries_left(ti)


def has_tries_left(ti: Any) -> bool:
    """Whether Airflow starts a next try of a task if this try's process is lost."""
    return bool(ti.try_number <= ti.max_tries) and not is_a_task_test(ti)


def waits_itself(task: Any, event: Mapping[str, Any]) -> bool:
    """Whether a resumed task must wait in its own process, because its trigger could not open the connection.

    If so, the task does not defer again. Its process may be able to open the connection: with ``[core] multi_team``,
    the triggerer of Airflow 3.3 cannot read a team's connections, but the task can.
    """
    if not event.get(CANNOT_BEGIN):
        return False
    task.log.warning(
        "The triggerer cannot open the connection: %s The task %s waits in its worker instead. Make the connection "
        "available to the triggerer, or set deferrable=False.",
        event["error"],
        task.task_id,
    )
    task.deferrable = False
    return True


def result_or_raise(event: Mapping[str, Any]) -> list[Any] | None:
    """Return the results in a trigger's event; None if there are too many for an event, so that the task reads them.

    :raises AirflowException: If the event contains an error. Airflow does not retry the task after a permanent error.
    """
    if "error" in event:
        raise airflow_exception(event["error"], permanent=event["permanent"])
    return event.get("result")


def raise_for_failures(operations: list[OperationDict], options: WaitOptions) -> list[OperationDict]:
    """Return the operations, unless more of them have failed than the options allow.

    :raises AirflowFailException: If more have failed. The message lists them with Earth Engine's codes and messages.
    """
    failed = [operation for operation in operations if operation["error"]]
    if not options.allows(len(failed), len(operations)):
        details = "\n".join(truncated_lines([f"  {line_of(operation)}" for operation in failed]))
        raise AirflowFailException(f"{len(failed)} of the Earth Engine operations did not succeed:\n{details}")
    return operations


def line_of(operation: OperationDict) -> str:
    """Return the result of an ended operation as one line of text."""
    from airflow_ee_provider.earth_engine.model.operations import escaped_for_log, label

    parts = [f"{operation['state']}: {label(operation['name'], operation['description'], is_name_first=False)}"]
    if error := operation["error"]:
        parts.append(f"code {error['code']}: {escaped_for_log(error['message'], 1000)}")
    if operation["duration_seconds"] is not None:
        parts.append(f"{operation['duration_seconds']:.0f} s")
    if operation["batch_eecu_usage_seconds"]:
        parts.append(f"{operation['batch_eecu_usage_seconds']:g} EECU-seconds")
    return ", ".join(parts) + "".join(f" → {escaped_for_log(uri)}" for uri in operation["destination_uris"])
