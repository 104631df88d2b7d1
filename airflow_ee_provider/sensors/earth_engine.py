"""Sensors for Earth Engine's long-running operations."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_ee_provider.base import parameters
from airflow_ee_provider.base.errors import airflow_errors, raise_for_failures, result_or_raise, waits_itself
from airflow_ee_provider.earth_engine.model.metrics import measure_ended
from airflow_ee_provider.earth_engine.protocol.waiting import next_interval
from airflow_ee_provider.lifecycle.owning_task import LIMITS, OwningTask, record_names
from airflow_ee_provider.lifecycle.signals import cancelling_on_ctrl_c
from airflow_ee_provider.tracking.record import Ownership

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import OperationDict
    from airflow_ee_provider.earth_engine.protocol.waiting import Progress


#: Parameters that are true or false.
FLAGS = ("cancel_on_kill", "cancel_on_timeout", "cancel_on_failure", "stop_at_failure")


class EarthEngineOperationsSensor(OwningTask, BaseSensorOperator):
    """
    Wait until operations have succeeded; fail as soon as one has failed or was cancelled.

    The sensor logs progress when it changes. It continues to wait after transient errors of Earth Engine. By default it
    never cancels.

    The task returns a list with the operations, each an `OperationDict`.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.operations/get

    :param operation_names: One name or a list of names, ``projects/PROJECT/operations/ID`` or an id of the connection's
        project; or another task's output (templated).
    :param earth_engine_conn_id: The connection to Earth Engine; None for Application Default Credentials (templated).
    :param project_id: The Cloud project of bare ids. By default the connection's project (templated).
    :param impersonation_chain: One service account to impersonate, or a chain of them; the last one calls Earth Engine
        (templated).
    :param poll_interval: Maximum time between two polls, in seconds or as a timedelta; at least 1 second. New
        operations are polled more often, except in the mode ``reschedule``. ``poke_interval`` is another name for it,
        and takes precedence.
    :param max_eecu_seconds: EECU-seconds that each operation may use. An operation that uses more is cancelled, and the
        task fails. None for no limit (templated).
    :param max_total_eecu_seconds: EECU-seconds that all operations may use together. When they have used more, those
        that still run are cancelled, and the task fails. None for no limit (templated).
    :param max_failures: How many operations may fail without failing the task: a whole number, or a share below 1
        (templated).
    :param cancel_on_kill: Cancel the operations when the task is cleared or marked, or its DAG run times out while it
        waits (in the mode ``reschedule``, while it polls) (templated).
    :param cancel_on_timeout: Cancel the operations when the sensor's ``timeout`` or ``execution_timeout`` passes
        (templated).
    :param cancel_on_failure: Cancel the remaining operations when more than ``max_failures`` have failed (templated).
    :param stop_at_failure: Fail as soon as more than ``max_failures`` operations have failed. If False, wait for the
        others first (templated).
    :param deferrable: Wait in the triggerer. By default the value of ``[operators] default_deferrable``.
    :raises AirflowFailException: If an operation failed or was cancelled, with Earth Engine's code and message; or if
        it used more EECU-seconds than allowed.
    """

    template_fields: Sequence[str] = (
        "operation_names",
        "earth_engine_conn_id",
        "project_id",
        "impersonation_chain",
        "max_eecu_seconds",
        "max_total_eecu_seconds",
        "max_failures",
        "cancel_on_kill",
        "cancel_on_timeout",
        "cancel_on_failure",
        "stop_at_failure",
    )
    checked_parameters: tuple[parameters.Parameter, ...] = (
        *parameters.CONNECTION,
        parameters.Flag("deferrable"),
        parameters.Seconds("timeout"),
        parameters.PollInterval("poke_interval"),
        *(parameters.Number(name, is_optional=True) for name in LIMITS),
        parameters.FailureBudget("max_failures"),
        *map(parameters.Flag, FLAGS),
    )
    interval_parameter = "poke_interval"
    ui_color = "#e6f1f2"

    def __init__(
        self,
        *,
        operation_names: Any,
        earth_engine_conn_id: str | None = "earth_engine_default",
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        poll_interval: float | timedelta = 30.0,
        max_eecu_seconds: float | str | None = None,
        max_total_eecu_seconds: float | str | None = None,
        max_failures: float | str = 0,
        cancel_on_kill: bool | str = False,
        cancel_on_timeout: bool | str = False,
        cancel_on_failure: bool | str = False,
        stop_at_failure: bool | str = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        interval = parameters.PollInterval("poll_interval").read(poll_interval)
        super().__init__(**{"poke_interval": interval, **kwargs})
        self.operation_names = operation_names
        self.earth_engine_conn_id = earth_engine_conn_id
        self.project_id = project_id
        self.impersonation_chain = impersonation_chain
        self.max_eecu_seconds: Any = max_eecu_seconds
        self.max_total_eecu_seconds: Any = max_total_eecu_seconds
        self.max_failures: Any = max_failures
        self.cancel_on_kill: Any = cancel_on_kill
        self.cancel_on_timeout: Any = cancel_on_timeout
        self.cancel_on_failure: Any = cancel_on_failure
        self.stop_at_failure: Any = stop_at_failure
        self.deferrable = deferrable
        self._progress: Progress | None = None
        parameters.check(self, self.checked_parameters)

    @property
    def ownership(self) -> Ownership:
        """The sensor owns its operations if it cancels them when it is killed."""
        return Ownership.OWNER if self.cancel_on_kill else Ownership.OBSERVER

    def execute(self, context: Context) -> Any:
        """Wait in the worker, or in the triggerer."""
        with cancelling_on_ctrl_c(self.ending):
            return self._record_and_wait(context)

    def _record_and_wait(self, context: Context) -> Any:
        with self._failing():
            record_names(self, context, self.ownership)
        try:
            # Unwrapped: Airflow's guard would refuse the call of a base class's method.
            return inspect.unwrap(BaseSensorOperator.execute)(self, context)
        except (AirflowSensorTimeout, AirflowTaskTimeout) as error:
            self.ending.on_timeout(error)
            raise
        except AirflowSkipException as skip:
            # soft_fail turns each error into a skip. A skip without a cause is the sensor's own timeout.
            if skip.__cause__ is None or isinstance(skip.__cause__, (AirflowSensorTimeout, AirflowTaskTimeout)):
                self.ending.on_timeout(skip)
            raise

    def poke(self, context: Context) -> PokeReturnValue:
        """Read the operations that have not ended; defer to the triggerer if ``deferrable`` is set."""
        names = self.hook.account.names(self.operation_names)
        with self._failing(), airflow_errors():
            self._progress = self.hook.poll_operations(names, **self.limits, progress=self._progress)
            operations = [operation.as_dict() for operation in self._progress.found]
            is_over = self._progress.is_over(self.wait_options)
            if is_over:
                self.ending.end_if_cancelled()
                measure_ended(operations, self.ending.dag_id)
                raise_for_failures(operations, self.wait_options)
        if self.deferrable and not is_over:
            from airflow_ee_provider.triggers.earth_engine import EarthEngineOperationsTrigger

            self.wait_in_triggerer(context, names, EarthEngineOperationsTrigger, timeout=self.timeout)
        return PokeReturnValue(is_done=is_over, xcom_value=operations)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[OperationDict]:
        """Return the operations that the trigger found, or raise."""
        if waits_itself(self, event):
            found: list[OperationDict] = self._record_and_wait(context)
            return found
        with cancelling_on_ctrl_c(self.ending), self._failing():
            operations = result_or_raise(event) or self._read()
            measure_ended(operations, self.ending.dag_id)
            return raise_for_failures(operations, self.wait_options)

    def _read(self) -> list[OperationDict]:
        """Read the operations that the trigger has waited for."""
        with airflow_errors():
            names = self.hook.account.names(self.operation_names)
            return [operation.as_dict() for operation in self.hook.poll_operations(names).found]

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Handle a user's action before an error leaves the task; `on_end` handles the rest."""
        try:
            yield
        except Exception as error:
            self.ending.on_failure(error)
            raise

    def _get_next_poke_interval(self, started_at: Any, run_duration: Callable[[], float], poke_count: int) -> float:
        """Poll more often at first, as in the triggerer; a rescheduled sensor starts a process for each poll."""
        interval = super()._get_next_poke_interval(started_at, run_duration, poke_count)
        return interval if self.reschedule or self.exponential_backoff else next_interval(run_duration(), interval)
