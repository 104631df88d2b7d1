"""What tasks, triggers and notifiers share: how a clean-up reports, and which errors Airflow is to retry."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_ee_provider.earth_engine.errors import EarthEngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_ee_provider.earth_engine.cancelling import CancelResult
    from airflow_ee_provider.earth_engine.drivers import Log

#: How a killed task confirms its cancels, in seconds; Airflow kills it for good after 5 s or 60 s.
KILL: dict[str, Any] = {"poll_interval": 1.0, "timeout": 20.0}

#: The parameters that say who asks Earth Engine; the same for operators, sensors, triggers and notifiers.
HOOK_PARAMETERS = ("earth_engine_conn_id", "project_id", "impersonation_chain")


def hook_arguments(holder: object) -> dict[str, Any]:
    """Return what a hook or a trigger of a task or notifier with those parameters is made with."""
    return {name: getattr(holder, name) for name in HOOK_PARAMETERS}


@contextmanager
def clean_up(log: Log) -> Iterator[None]:
    """Log loudly what keeps a clean-up from cancelling; the error that it was called for must stay the one seen."""
    try:
        yield
    except (EarthEngineError, AirflowException, LookupError) as error:
        log.error("Earth Engine operations could not be cancelled and may still run: %s", error)  # noqa: TRY400


def report(results: list[CancelResult], log: Log) -> None:
    """Log loudly which operations may still run, and which error was in the way."""
    for result in results:
        if not result.outcome.settled:
            log.error("%s. It may still run.", result.describe())


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Let Airflow retry the task after an error of Earth Engine's only where that can help."""
    try:
        yield
    except EarthEngineError as error:
        raise airflow_exception(str(error), permanent=error.permanent) from error


def airflow_exception(message: str, *, permanent: bool) -> AirflowException:
    """Return an exception after which Airflow retries the task, or not."""
    return AirflowFailException(message) if permanent else AirflowException(message)


def result_of(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a trigger's event carries.

    :raises AirflowException: if that is an error; one that Airflow retries only where that can help.
    """
    if "error" in event:
        raise airflow_exception(event["error"], permanent=event["permanent"])
    result: list[dict[str, Any]] = event["result"]
    return result


def timed_out(next_method: str, next_kwargs: Mapping[str, Any] | None) -> bool:
    """Whether a task is resumed because its trigger timed out; no code of the trigger's ran then."""
    error = (next_kwargs or {}).get("error")
    return next_method == "__fail__" and str(getattr(error, "value", error)) == "Trigger timeout"
