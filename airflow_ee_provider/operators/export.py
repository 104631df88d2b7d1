"""The operator that starts an export from the API's own JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_ee_provider.earth_engine.starting import Export
from airflow_ee_provider.exporting import ExportingOperator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context


class EarthEngineExportOperator(ExportingOperator):
    """
    Start an export exactly once, and wait until it has succeeded.

    The ``requestId`` derives from the task instance, so that a retry after a crash finds the export that the last try
    has started, even if it died before it could write that down. After a failed or cancelled export a retry starts
    the next one; after a clear, too.

    Returns a list with the operation: ``name``, ``state``, ``destination_uris``, ``batch_eecu_usage_seconds``,
    ``duration`` (seconds) and more.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.image/export

    :param kind: ``image``, ``table``, ``video``, ``videoMap``, ``map`` or ``classifier``.
    :param body: the API's own JSON, such as an ExportImageRequest without ``requestId`` (templated; also a text of
        JSON, or the name of a ``.json`` template file).
    :param kwargs: the parameters of `ExportingOperator`: how to connect, to wait, to cancel.
    :raises AirflowFailException: where trying again cannot help, for example for a body that cannot be right.
    """

    template_fields: Sequence[str] = ("body", *ExportingOperator.template_fields)
    template_ext: Sequence[str] = (".json",)
    template_fields_renderers = {"body": "json"}  # noqa: RUF012 (Airflow's own form)

    def __init__(self, *, kind: str, body: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind = kind
        self.body = body

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Start it, write its name down, wait."""
        return self.own(context, lambda: [self._export()])

    def _export(self) -> Export:
        try:
            body = json.loads(self.body) if isinstance(self.body, str) else self.body
        except ValueError as error:
            raise AirflowFailException(f"The export's body is not JSON: {error}.") from None
        if not isinstance(body, Mapping):
            raise AirflowFailException("The export's body is not a JSON object.")
        return Export(self.kind, body)
