"""The parameters of all tasks that start exports: connection, start, wait, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_ee_provider.base import parameters
from airflow_ee_provider.lifecycle.owning_task import LIMITS, OwningTask
from airflow_ee_provider.links.earth_engine import EXPORT_LINKS
from airflow_ee_provider.tracking.record import Ownership

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow_ee_provider.exports.requested import Repeats

#: Parameters that are true or false.
FLAGS = (
    "wait_for_completion",
    "cancel_on_kill",
    "cancel_on_timeout",
    "cancel_on_failure",
    "ignore_refused_starts",
    "batch_starts",
)


class ExportParameters(OwningTask, BaseOperator):
    """
    The parameters of a task that starts exports, and waits until all have succeeded.

    :param earth_engine_conn_id: The connection to Earth Engine; None for Application Default Credentials (templated).
    :param project_id: The Cloud project that runs the exports. By default the connection's project (templated).
    :param impersonation_chain: One service account to impersonate, or a chain of them; the last one calls Earth Engine
        (templated).
    :param workload_tag: The tag under which Cloud Monitoring reports the cost of exports that have no tag of their own.
        By default made from the DAG's id; an empty string sets none (templated).
    :param priority: The priority of exports that have none of their own, 0 to 9999; Earth Engine's default is 100. For
        paid projects only (templated).
    :param wait_for_completion: Wait until the exports have ended. If False, the task returns once they are started
        (templated).
    :param poll_interval: Maximum time between two polls, in seconds or as a timedelta; at least 1 second (templated).
    :param max_eecu_seconds: EECU-seconds that each export may use. An export that uses more is cancelled, and the task
        fails. None for no limit (templated).
    :param max_total_eecu_seconds: EECU-seconds that all exports may use together. When they have used more, those that
        still run are cancelled, and the task fails. None for no limit (templated).
    :param max_failures: How many exports may fail without failing the task: a whole number, or a share below 1
        (templated).
    :param max_restarts: How many times to restart an export after a transient failure, in each try of the task
        (templated).
    :param max_active_operations: Maximum number of queued and running exports of this task, so that the project's queue
        has room for others. None for as many as the queue takes (templated).
    :param queue_timeout: Fail the task, which Airflow may retry, if no export could be started for this long because
        the project's queue was full; in seconds or as a timedelta. None to wait without limit (templated).
    :param cancel_on_kill: Cancel the exports when the task is cleared or marked, or when its DAG run times out
        (templated).
    :param cancel_on_timeout: Cancel the exports when ``execution_timeout`` passes, counted from the task's start
        (templated).
    :param cancel_on_failure: Cancel the remaining exports when more than ``max_failures`` have failed, or when the task
        fails without further retries (templated).
    :param stop_at_failure: Fail as soon as more than ``max_failures`` exports have failed. If False, wait for the other
        exports first. By default the same as ``cancel_on_failure`` (templated).
    :param ignore_refused_starts: Do not fail the task for a start that the function made itself and Earth Engine
        refused: the function handles it (templated).
    :param batch_starts: Send the function's starts in parallel after it has returned, not one by one (templated).
    :param deferrable: Wait in the triggerer. By default the value of ``[operators] default_deferrable``.
    """

    resumes_operations = True
    #: Of an ``earth_engine()`` block: its number, and the starts of the task's other blocks.
    block: int | None = None
    repeats: Repeats | None = None

    template_fields: Sequence[str] = (
        "earth_engine_conn_id",
        "project_id",
        "impersonation_chain",
        "workload_tag",
        "priority",
        "wait_for_completion",
        "poll_interval",
        "max_eecu_seconds",
        "max_total_eecu_seconds",
        "max_failures",
        "max_restarts",
        "max_active_operations",
        "queue_timeout",
        "cancel_on_kill",
        "cancel_on_timeout",
        "cancel_on_failure",
        "stop_at_failure",
        "ignore_refused_starts",
        "batch_starts",
    )
    checked_parameters: tuple[parameters.Parameter, ...] = (
        *parameters.CONNECTION,
        parameters.Flag("deferrable"),
        parameters.Text("workload_tag"),
        parameters.PollInterval("poll_interval"),
        *(parameters.Number(name, is_optional=True) for name in LIMITS),
        parameters.FailureBudget("max_failures"),
        parameters.Integer("max_restarts"),
        parameters.Integer("max_active_operations", is_optional=True, least=1),
        parameters.Seconds("queue_timeout", is_optional=True),
        parameters.Integer("priority", is_optional=True, most=9999),
        parameters.Flag("stop_at_failure", is_optional=True),
        *map(parameters.Flag, FLAGS),
    )
    operator_extra_links = EXPORT_LINKS
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
        batch_starts: bool | str = False,
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
        self.batch_starts: Any = batch_starts
        self.deferrable = deferrable
        self.operation_names: list[str] = []
        parameters.check(self, self.checked_parameters)

    @property
    def ownership(self) -> Ownership:
        """The task owns its exports if it waits for them, and cancels them when it is killed."""
        return Ownership.OWNER if self.cancel_on_kill and self.wait_for_completion else Ownership.HANDED_OFF
