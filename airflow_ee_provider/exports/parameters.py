"""What people say about exports: how to connect, start, wait, cancel; the same for everything that starts some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_ee_provider.base import parameters
from airflow_ee_provider.base.connection import ACCOUNT_PARAMETERS
from airflow_ee_provider.earth_engine.protocol.waiting import WaitOptions
from airflow_ee_provider.lifecycle.waiting_task import LIMITS, WaitingTask
from airflow_ee_provider.links.earth_engine import EarthEngineOutputLink, EarthEngineTasksLink
from airflow_ee_provider.tracking.record import Ownership

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

#: Parameters that are true or false.
FLAGS = ("wait_for_completion", "cancel_on_kill", "cancel_on_timeout", "cancel_on_failure", "ignore_refused_starts")


class ExportParameters(WaitingTask, BaseOperator):
    """
    The parameters of a task that starts exports, and waits until all have succeeded.

    :param earth_engine_conn_id: the connection (templated).
    :param project_id: the Cloud project that runs the exports, in place of the connection's (templated).
    :param impersonation_chain: service accounts, the last of which calls Earth Engine (templated).
    :param workload_tag: under which Cloud Monitoring shows their costs, where an export has none of its own
        (templated); by default made of the DAG's id, empty for none.
    :param priority: 0 to 9999, where an export has none of its own; 100 for Earth Engine. For paid projects only
        (templated).
    :param wait_for_completion: wait for the end; otherwise the operations are returned as started (templated).
    :param poll_interval: between two polls, in seconds or as a timedelta (templated).
    :param max_eecu_seconds: EECU-seconds that each may use before it is cancelled; None for no limit (templated).
    :param max_total_eecu_seconds: EECU-seconds that all may use together; once they have used more, what still runs is
        cancelled, confirmed, and the task fails. None for no limit (templated).
    :param max_failures: how many exports may fail without failing the task: a whole number, or a share below 1
        (templated).
    :param max_restarts: how often, in one try, an export that has failed in a way that can pass is started again
        (templated).
    :param max_active_operations: how many of what a task is given, or its function returns, may be in Earth Engine at
        once, so that there is room for others in the project's queue; None for as many as the queue takes (templated).
    :param queue_timeout: to wait for room in that queue without anything being started, in seconds or as a timedelta,
        before the task fails, to be tried again; None for as long as it takes (templated).
    :param cancel_on_kill: cancel when the task is cleared or marked, or its DAG run times out (templated).
    :param cancel_on_timeout: cancel when the ``execution_timeout`` passes, counted from the task's start (templated).
    :param cancel_on_failure: cancel what is left when more of them than ``max_failures`` have failed, or when the task
        fails for good in any other way (templated).
    :param stop_at_failure: fail as soon as more of them than ``max_failures`` have failed; False waits for the others
        first. By default as ``cancel_on_failure``: what is not cancelled is waited for (templated).
    :param ignore_refused_starts: succeed although Earth Engine has refused starts that the function has asked for by
        itself: it deals with that (templated).
    :param deferrable: wait in the triggerer; by default as ``[operators] default_deferrable`` says.
    """

    template_fields: Sequence[str] = (
        "workload_tag",
        "priority",
        "poll_interval",
        *LIMITS,
        "max_failures",
        "max_restarts",
        "max_active_operations",
        "queue_timeout",
        "stop_at_failure",
        *FLAGS,
        *ACCOUNT_PARAMETERS,
    )
    checked_parameters: tuple[parameters.Parameter, ...] = (
        parameters.Seconds("poll_interval"),
        *(parameters.Number(name, is_optional=True) for name in LIMITS),
        parameters.Allowance("max_failures"),
        parameters.Whole("max_restarts"),
        parameters.Whole("max_active_operations", is_optional=True, least=1),
        parameters.Seconds("queue_timeout", is_optional=True),
        parameters.Whole("priority", is_optional=True, most=9999),
        parameters.Flag("stop_at_failure", is_optional=True),
        *map(parameters.Flag, FLAGS),
    )
    operator_extra_links = (EarthEngineTasksLink(), EarthEngineOutputLink())
    ui_color = "#d9ead3"

    def __init__(
        self,
        *,
        earth_engine_conn_id: str | None = "earth_engine_default",
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        workload_tag: str | None = None,
        priority: int | str | None = None,
        wait_for_completion: bool | str = True,
        poll_interval: float | timedelta | str = 30.0,
        max_eecu_seconds: float | str | None = None,
        max_total_eecu_seconds: float | str | None = None,
        max_failures: float | str = 0,
        max_restarts: int | str = 0,
        max_active_operations: int | str | None = None,
        queue_timeout: float | timedelta | str | None = None,
        cancel_on_kill: bool | str = True,
        cancel_on_timeout: bool | str = True,
        cancel_on_failure: bool | str = True,
        stop_at_failure: bool | str | None = None,
        ignore_refused_starts: bool | str = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.earth_engine_conn_id = earth_engine_conn_id
        self.project_id = project_id
        self.impersonation_chain = impersonation_chain
        self.workload_tag = workload_tag
        self.priority: Any = priority
        self.wait_for_completion: Any = wait_for_completion
        self.poll_interval: Any = poll_interval
        self.max_eecu_seconds: Any = max_eecu_seconds
        self.max_total_eecu_seconds: Any = max_total_eecu_seconds
        self.max_failures: Any = max_failures
        self.max_restarts: Any = max_restarts
        self.max_active_operations: Any = max_active_operations
        self.queue_timeout: Any = queue_timeout
        self.cancel_on_kill: Any = cancel_on_kill
        self.cancel_on_timeout: Any = cancel_on_timeout
        self.cancel_on_failure: Any = cancel_on_failure
        self.stop_at_failure: Any = stop_at_failure
        self.ignore_refused_starts: Any = ignore_refused_starts
        self.deferrable = deferrable
        self.operation_names: list[str] = []
        parameters.check(self, self.checked_parameters)

    def pre_execute(self, context: Context) -> None:
        """Have in the process what a kill needs, and check what was rendered, before anything is sent."""
        super().pre_execute(context)
        parameters.check_rendered(self, self.checked_parameters)

    @property
    def ownership(self) -> Ownership:
        """Whether they are its own until they end: those that it waits for, and cancels when it is killed."""
        return Ownership.OWNER if self.cancel_on_kill and self.wait_for_completion else Ownership.HANDED_OFF

    @property
    def wait_options(self) -> WaitOptions:
        """How this task waits."""
        stop = self.cancel_on_failure if self.stop_at_failure is None else self.stop_at_failure
        return WaitOptions(self.poll_interval, stop, max_failures=self.max_failures, **self.limits)
