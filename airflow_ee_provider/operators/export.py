"""The operator that starts an export, and owns it to its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, BaseOperator, conf

from airflow_ee_provider.holders import WaitingHolder, succeeded
from airflow_ee_provider.records import record_operations, tries_since_clear
from airflow_ee_provider.tasks import HOOK_PARAMETERS, airflow_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context


class EarthEngineExportOperator(WaitingHolder, BaseOperator):
    """
    Start an export exactly once, and wait until it has succeeded.

    The ``requestId`` derives from the task instance, so that a retry after a crash finds the export that the last try
    has started, even if it died before it could write that down. After a failed or cancelled export a retry starts
    the next one; after a clear, too.

    Returns a list with the operation: ``name``, ``state``, ``destination_uris``, ``batch_eecu_usage_seconds`` and more.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.image/export

    :param kind: ``image``, ``table``, ``video``, ``videoMap``, ``map`` or ``classifier``.
    :param body: the API's own JSON, such as an ExportImageRequest without ``requestId`` (templated; also a text of
        JSON, or the name of a ``.json`` template file).
    :param earth_engine_conn_id: the connection (templated).
    :param project_id: the Cloud project that runs the export, in place of the connection's (templated).
    :param impersonation_chain: service accounts, the last of which calls Earth Engine (templated).
    :param wait_for_completion: wait for the end; otherwise the operation is returned as it was started.
    :param poll_interval: seconds between two polls.
    :param max_eecu_seconds: EECU-seconds that the export may use before it is cancelled; None for no limit.
    :param cancel_on_kill: cancel the export when the task is cleared or marked, its DAG run times out, or its
        ``execution_timeout`` passes in a worker.
    :param cancel_on_timeout: cancel the export when the ``execution_timeout`` passes while the task is deferred.
    :param deferrable: wait in the triggerer; by default as ``[operators] default_deferrable`` says.
    :raises AirflowFailException: where trying again cannot help, for example for a body that cannot be right.
    """

    template_fields: Sequence[str] = ("body", *HOOK_PARAMETERS)
    template_ext: Sequence[str] = (".json",)
    template_fields_renderers = {"body": "json"}  # noqa: RUF012 (Airflow's own form)
    ui_color = "#d9ead3"

    def __init__(
        self,
        *,
        kind: str,
        body: Any,
        earth_engine_conn_id: str | None = "earth_engine_default",
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        wait_for_completion: bool = True,
        poll_interval: float = 30.0,
        max_eecu_seconds: float | None = None,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kind = kind
        self.body = body
        self.earth_engine_conn_id = earth_engine_conn_id
        self.project_id = project_id
        self.impersonation_chain = impersonation_chain
        self.wait_for_completion = wait_for_completion
        self.poll_interval = poll_interval
        self.max_eecu_seconds = max_eecu_seconds
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.deferrable = deferrable
        self.operation_names: list[str] = []

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Start it, write its name down, wait."""
        with airflow_errors():
            operation = self.hook.start_export_once(
                self.kind, self._body(), _identity(context), tries_since_clear(context)
            )
        self.operation_names = [str(operation.name)]
        record_operations(context, operation.name)
        if not self.wait_for_completion or operation.done:
            return succeeded([operation.as_dict()])
        if self.deferrable:
            self.wait_in_triggerer(self.operation_names, self.poll_interval)
        try:
            with airflow_errors():
                found = self.hook.wait_for_operations(
                    self.operation_names, poll_interval=self.poll_interval, max_eecu_seconds=self.max_eecu_seconds
                )
        except AirflowTaskTimeout as error:
            if not self.cancel_on_kill:  # Airflow calls `on_kill` then.
                self.on_timeout(error)
            raise
        return succeeded([operation.as_dict() for operation in found])

    def _body(self) -> Mapping[str, Any]:
        try:
            body = json.loads(self.body) if isinstance(self.body, str) else self.body
        except ValueError as error:
            raise AirflowFailException(f"The export's body is not JSON: {error}.") from None
        if not isinstance(body, Mapping):
            raise AirflowFailException("The export's body is not a JSON object.")
        return body


def _identity(context: Context) -> str:
    """Return what the tries of a task instance have in common: all but its clears, which change ``max_tries``."""
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}/{ti.max_tries}"
