"""The operator that imports an asset; the official client calls that an ingestion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_ee_provider.base import parameters
from airflow_ee_provider.earth_engine.ee_client.objects import place_of
from airflow_ee_provider.earth_engine.protocol.starting import IMPORT_KINDS, Import
from airflow_ee_provider.exports.exporting import ExportingOperator
from airflow_ee_provider.exports.parameters import ExportParameters
from airflow_ee_provider.exports.requested import Made
from airflow_ee_provider.operators.parameters import file_of, passed_on, read_json, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import OperationDict


class EarthEngineImportOperator(ExportingOperator):
    """
    Import an image or a table as an asset, exactly once, and wait until the import has succeeded.

    Imports behave like exports: a retry finds the import that an earlier try started, the next try starts it again
    after a transient failure, and the task cancels it if the task itself ends.

    The task returns the operation, an `OperationDict`.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.image/import

    :param kind: The kind of asset: ``image`` or ``table`` (templated).
    :param manifest: An ImageManifest or TableManifest with the asset's ``name``: a dict, a text of JSON, or the name of
        a ``.json`` template file (templated).
    :param overwrite: Replace an existing asset. If False, Earth Engine refuses to import to an existing asset
        (templated).
    :param earth_engine_conn_id: The connection to Earth Engine; None for Application Default Credentials (templated).
    :param project_id: The Cloud project that runs the import. By default the connection's project (templated).
    :param impersonation_chain: One service account to impersonate, or a chain of them; the last one calls Earth Engine
        (templated).
    :param wait_for_completion: Wait until the import has ended. If False, the task returns once it is started
        (templated).
    :param poll_interval: Maximum time between two polls, in seconds or as a timedelta; at least 1 second (templated).
    :param max_eecu_seconds: EECU-seconds that the import may use before it is cancelled and the task fails. None for no
        limit (templated).
    :param max_total_eecu_seconds: The same, for one import (templated).
    :param max_failures: How many imports may fail without failing the task: a whole number, or a share below 1
        (templated).
    :param max_restarts: How many times to restart an import after a transient failure, in each try of the task
        (templated).
    :param max_active_operations: Maximum number of queued and running imports of this task, so that the project's queue
        has room for others. None for as many as the queue takes (templated).
    :param queue_timeout: Fail the task, which Airflow may retry, if no import could be started for this long because
        the project's queue was full; in seconds or as a timedelta. None to wait without limit (templated).
    :param cancel_on_kill: Cancel the import when the task is cleared or marked, or when its DAG run times out
        (templated).
    :param cancel_on_timeout: Cancel the import when ``execution_timeout`` passes, counted from the task's start
        (templated).
    :param cancel_on_failure: Cancel the remaining imports when more than ``max_failures`` have failed, or when the task
        fails without further retries (templated).
    :param stop_at_failure: Fail as soon as more than ``max_failures`` imports have failed. If False, wait for the other
        imports first. By default the same as ``cancel_on_failure`` (templated).
    :param deferrable: Wait in the triggerer. By default the value of ``[operators] default_deferrable``.
    :raises AirflowFailException: If a retry cannot succeed, for example if the manifest is invalid.
    """

    template_fields: Sequence[str] = (
        "kind",
        "manifest",
        "overwrite",
        "earth_engine_conn_id",
        "project_id",
        "impersonation_chain",
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
    checked_parameters = (
        parameters.Choice("kind", IMPORT_KINDS),
        parameters.Flag("overwrite"),
        *ExportingOperator.checked_parameters,
    )
    template_fields_renderers = {"manifest": "json"}  # noqa: RUF012 (Airflow's own form)

    def __init__(
        self,
        *,
        kind: str,
        manifest: Any,
        overwrite: bool | str = False,
        earth_engine_conn_id: str | None = "earth_engine_default",
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
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
        self.manifest = manifest
        self.overwrite: Any = overwrite
        refuse(self, kwargs, "workload_tag", "priority", "ignore_refused_starts", "batch_starts")
        super().__init__(**passed_on(locals(), ExportParameters.__init__))

    def resolve_template_files(self) -> None:
        """Read the manifest from its file, if it names one."""
        self.manifest = file_of(self, self.manifest)

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        """Render all fields. For a mapped task, Airflow calls only this method, and not `resolve_template_files`."""
        self.resolve_template_files()
        super()._do_render_template_fields(parent, *args, **kwargs)

    def execute(self, context: Context) -> OperationDict:
        """Start the import, record its name, and wait."""
        operation: OperationDict = self.start_and_wait(context, lambda _: Made(place_of(0), [self._import()]))
        return operation

    def _import(self) -> Import:
        return Import(self.kind, read_json(self.manifest, "import's manifest"), overwrite=self.overwrite)
