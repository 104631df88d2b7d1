"""Sensors for Earth Engine's long-running operations."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_ee_provider.earth_engine.flows.waiting import WaitOptions
from airflow_ee_provider.earth_engine.operations import all_done
from airflow_ee_provider.tasks import parameters
from airflow_ee_provider.tasks.clean_up import airflow_errors
from airflow_ee_provider.tasks.record_format import ACCOUNT_PARAMETERS
from airflow_ee_provider.tasks.waiting_task import WaitingTask, raise_for_failures, record_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.operation_names import OperationName
    from airflow_ee_provider.earth_engine.operations import Operation


class EarthEngineOperationSensor(WaitingTask, BaseSensorOperator):
    """
    Wait until operations have succeeded; fail as soon as one has failed or was cancelled.

    Returns a list with, for each operation, its ``name``, ``state``, ``destination_uris``,
    ``batch_eecu_usage_seconds``, ``create_time``, ``start_time``, ``end_time`` and more, as plain JSON. Progress is
    logged when it changes. A fault that passes does not end the waiting.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.operations/get

    :param operation_names: one name or several, ``projects/PROJECT/operations/ID`` or an id of the connection's
        project (templated; a list, or another task's output).
    :param earth_engine_conn_id: the connection (templated).
    :param project_id: the Cloud project of bare ids, in place of the connection's (templated).
    :param impersonation_chain: service accounts, the last of which calls Earth Engine (templated).
    :param poll_interval: between two polls, in seconds or as a timedelta; the same as ``poke_interval``, which wins
        where both are given.
    :param max_eecu_seconds: EECU-seconds that each operation may use; one that uses more is cancelled, confirmed, and
        fails the task. None for no limit (templated).
    :param cancel_on_kill: cancel the operations when the task is cleared or marked, or its DAG run times out while
        it waits (not in the mode ``reschedule``, where none of the task's code runs then).
    :param cancel_on_timeout: cancel the operations when the sensor's ``timeout`` or ``execution_timeout`` passes.
    :param deferrable: wait in the triggerer; by default as ``[operators] default_deferrable`` says.
    :raises AirflowFailException: with Earth Engine's own code and message, if an operation failed or was cancelled; or
        with what it used and what was allowed.
    """

    template_fields: Sequence[str] = ("operation_names", "max_eecu_seconds", *ACCOUNT_PARAMETERS)
    checked_parameters = (parameters.Number("max_eecu_seconds", is_optional=True),)
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
        cancel_on_kill: bool = False,
        cancel_on_timeout: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        interval = parameters.Seconds("poll_interval").read(poll_interval)
        super().__init__(**{"poke_interval": interval, **kwargs})
        self.operation_names = operation_names
        self.earth_engine_conn_id = earth_engine_conn_id
        self.project_id = project_id
        self.impersonation_chain = impersonation_chain
        self.max_eecu_seconds: Any = max_eecu_seconds
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.deferrable = deferrable
        self._latest: dict[OperationName, Operation] = {}
        parameters.check(self, self.checked_parameters)

    def pre_execute(self, context: Context) -> None:
        """Have in the process what a kill needs, and check what was rendered, before anything is sent."""
        super().pre_execute(context)
        parameters.check_rendered(self, self.checked_parameters)

    @property
    def wait_options(self) -> WaitOptions:
        """How this sensor waits."""
        return WaitOptions(self.poke_interval, max_eecu_seconds=self.max_eecu_seconds)

    def execute(self, context: Context) -> Any:
        """Wait in the worker, or in the triggerer."""
        record_names(self, context)
        try:
            # Without Airflow's guard, which takes the call of a base class for one from outside of a task.
            return inspect.unwrap(BaseSensorOperator.execute)(self, context)
        except (AirflowSensorTimeout, AirflowTaskTimeout) as error:
            self.on_timeout(error)
            raise
        except AirflowSkipException as skip:
            # soft_fail turns everything into a skip; one without a cause is the sensor's own timeout.
            if skip.__cause__ is None or isinstance(skip.__cause__, (AirflowSensorTimeout, AirflowTaskTimeout)):
                self.on_timeout(skip)
            raise

    def poke(self, context: Context) -> PokeReturnValue:
        """Ask for the state of what has not ended yet; leave the waiting to the triggerer if that is wanted."""
        with airflow_errors():
            names = self.hook.account.names(self.operation_names)
            found = self.hook.wait_for_operations(
                names, timeout=0.0, latest=self._latest, **self.wait_options.as_kwargs()
            )
        operations = raise_for_failures([operation.as_dict() for operation in found])
        is_done = all_done(names, found)
        if self.deferrable and not is_done:
            self.wait_in_triggerer(context, names, self.timeout)
        return PokeReturnValue(is_done=is_done, xcom_value=operations)
