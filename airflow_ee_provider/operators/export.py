"""The operator that starts an export from the JSON of Earth Engine's REST API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_ee_provider.base import parameters
from airflow_ee_provider.earth_engine.ee_client.objects import place_of
from airflow_ee_provider.earth_engine.protocol.api_methods import EXPORT_KINDS
from airflow_ee_provider.earth_engine.protocol.starting import Export
from airflow_ee_provider.exports.exporting import ExportingOperator
from airflow_ee_provider.exports.parameters import ExportParameters
from airflow_ee_provider.exports.requested import Made
from airflow_ee_provider.operators.parameters import file_of, passed_on, read_json, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import OperationDict


class EarthEngineExportOperator(ExportingOperator):
    """
    Start an export exactly once, from the JSON of Earth Engine's REST API, and wait until it has succeeded.

    Each start has a ``requestId`` that is computed from the task instance and the request. So a retry finds the export
    that an earlier try started, even if that try crashed before it recorded the name. After a transient failure (an
    internal error of Earth Engine, a time-out), the next try starts the export again, if the task has ``retries``. Any
    other failure fails the task without a retry.

    The task returns the operation, an `OperationDict`.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.image/export

    :param kind: The kind of export: ``image``, ``table``, ``video``, ``videoMap``, ``map`` or ``classifier``
        (templated).
    :param body: The request's JSON, for example an ExportImageRequest without ``requestId``: a dict, a text of JSON, or
        the name of a ``.json`` template file. Its ``expression`` is not rendered (templated).
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
    :param deferrable: Wait in the triggerer. By default the value of ``[operators] default_deferrable``.
    :raises AirflowFailException: If a retry cannot succeed, for example if the body is invalid.
    """

    template_fields: Sequence[str] = (
        "kind",
        "body",
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
    )
    checked_parameters = (parameters.Choice("kind", EXPORT_KINDS), *ExportingOperator.checked_parameters)
    template_fields_renderers = {"body": "json"}  # noqa: RUF012 (Airflow's own form)

    def __init__(
        self,
        *,
        kind: str,
        body: Any,
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
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        self.kind = kind
        self.body = body
        refuse(self, kwargs, "ignore_refused_starts", "batch_starts")
        super().__init__(**passed_on(locals(), ExportParameters.__init__))

    def resolve_template_files(self) -> None:
        """Read the body from its file, if it names one."""
        self.body = file_of(self, self.body)

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        """Render all fields except the body's expression, which may contain braces of its own.

        For a mapped task, Airflow calls only this method of the task, and not `resolve_template_files`.
        """
        self.resolve_template_files()
        expression = None
        if isinstance(self.body, Mapping) and "expression" in self.body:
            expression = self.body["expression"]
            self.body = {name: value for name, value in self.body.items() if name != "expression"}
        super()._do_render_template_fields(parent, *args, **kwargs)
        if expression is not None:
            self.body = {**self.body, "expression": expression}

    def execute(self, context: Context) -> OperationDict:
        """Start the export, record its name, and wait."""
        operation: OperationDict = self.start_and_wait(context, lambda _: self._made())
        return operation

    def _made(self) -> Made:
        return Made(place_of(0), [Export(self.kind, read_json(self.body, "export's body"))])
