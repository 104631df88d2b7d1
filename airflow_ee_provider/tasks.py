"""What every task that holds operations does, be it an operator or a sensor."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException

from airflow_ee_provider.earth_engine.errors import EarthEngineError
from airflow_ee_provider.records import record_operations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.cancelling import CancelResult
    from airflow_ee_provider.earth_engine.operations import OperationName
    from airflow_ee_provider.earth_engine.transports import Log
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

#: How a killed task confirms its cancels, in seconds; Airflow kills it for good after 5 s or 60 s.
KILL: dict[str, Any] = {"poll_interval": 1.0, "timeout": 20.0}

#: The parameters that say who asks Earth Engine; the same for operators, sensors, triggers and notifiers.
HOOK_PARAMETERS = ("earth_engine_conn_id", "project_id", "impersonation_chain")


class OperationHolder:
    """A mixin for operators and sensors with the parameters `HOOK_PARAMETERS` and ``operation_names``."""

    if TYPE_CHECKING:
        operation_names: Any
        log: Any
        task_id: str

    @property
    def hook_arguments(self) -> dict[str, Any]:
        """What a hook or a trigger of this task is made with."""
        return {name: getattr(self, name) for name in HOOK_PARAMETERS}

    @cached_property
    def hook(self) -> EarthEngineHook:
        """The task's hook."""
        from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

        return EarthEngineHook(**self.hook_arguments)

    def adopt(self, context: Context) -> list[OperationName]:
        """Parse the names and record them as this task's, before anything waits on them.

        :raises AirflowSkipException: if there is no name at all: the upstream task started nothing.
        """
        with airflow_errors():
            names = self.hook.account.names(self.operation_names)
        if not names:
            raise AirflowSkipException(f"{self.task_id} was given no Earth Engine operation: there is nothing to do.")
        record_operations(context, names)
        return names

    def cancel_now(self, why: str) -> None:
        """Cancel this task's operations on its way out; log what became of each, and raise nothing."""
        self.log.warning("%s; cancelling %s.", why, self.operation_names)
        with clean_up(self.log):
            report(self.hook.cancel_operations(self.operation_names, **KILL), self.log)


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


def timed_out(next_method: str, next_kwargs: Mapping[str, Any] | None) -> bool:
    """Whether a task is resumed because its trigger timed out; no code of the trigger's ran then."""
    error = (next_kwargs or {}).get("error")
    return next_method == "__fail__" and str(getattr(error, "value", error)) == "Trigger timeout"
