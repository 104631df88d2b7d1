"""The operator that starts an export from the API's own JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base import parameters
from airflow_ee_provider.earth_engine.ee_client.objects import place_of
from airflow_ee_provider.earth_engine.protocol.api_methods import EXPORT_KINDS
from airflow_ee_provider.earth_engine.protocol.starting import Export
from airflow_ee_provider.exports.exporting import ExportingOperator
from airflow_ee_provider.exports.requested import Made
from airflow_ee_provider.operators.json_parameters import file_of, read_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import OperationDict


class EarthEngineExportOperator(ExportingOperator):
    """
    Start an export exactly once, and wait until it has succeeded.

    The ``requestId`` derives from the task instance and from what is asked for, so that a retry after a crash finds the
    export that the last try has started, even if it died before it could write that down. An export that has failed in
    a way that can pass (an internal error of Earth Engine's, a time-out) is started again by the next try, if there are
    ``retries``; any other failure fails the task for good.

    Returns the operation, an `OperationDict`.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.image/export

    :param kind: ``image``, ``table``, ``video``, ``videoMap``, ``map`` or ``classifier`` (templated).
    :param body: the API's own JSON, such as an ExportImageRequest without ``requestId`` (templated, but for its
        ``expression``; also a text of JSON, or the name of a ``.json`` template file).
    :param kwargs: the parameters of `ExportParameters`: how to connect, to wait, to cancel.
    :raises AirflowFailException: where trying again cannot help, for example for a body that cannot be right.
    """

    template_fields: Sequence[str] = ("kind", "body", *ExportingOperator.template_fields)
    checked_parameters = (parameters.Choice("kind", EXPORT_KINDS), *ExportingOperator.checked_parameters)
    template_fields_renderers = {"body": "json"}  # noqa: RUF012 (Airflow's own form)

    def __init__(self, *, kind: str, body: Any, **kwargs: Any) -> None:
        self.kind = kind
        self.body = body
        super().__init__(**kwargs)

    def resolve_template_files(self) -> None:
        """Read the body's file, if that is what it names."""
        self.body = file_of(self, self.body)

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render everything but the body's expression, whose texts are Earth Engine's own."""
        expression = None
        if isinstance(self.body, Mapping) and "expression" in self.body:
            expression = self.body["expression"]
            self.body = {name: value for name, value in self.body.items() if name != "expression"}
        super().render_template_fields(context, jinja_env)
        if expression is not None:
            self.body = {**self.body, "expression": expression}

    def execute(self, context: Context) -> OperationDict:
        """Start it, write its name down, wait."""
        operation: OperationDict = self.start_and_wait(context, lambda _: self._made())
        return operation

    def _made(self) -> Made:
        return Made(place_of(0), [Export(self.kind, read_json(self.body, "export's body"))])
