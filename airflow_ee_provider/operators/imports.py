"""The operator that imports an asset: what the official client calls an ingestion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base import parameters
from airflow_ee_provider.earth_engine.ee_client.objects import place_of
from airflow_ee_provider.earth_engine.protocol.starting import IMPORT_KINDS, Import
from airflow_ee_provider.exports.exporting import ExportingOperator
from airflow_ee_provider.exports.requested import Made
from airflow_ee_provider.operators.json_parameters import file_of, read_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import OperationDict


class EarthEngineImportOperator(ExportingOperator):
    """
    Import an image or a table as an asset, exactly once, and wait until that has succeeded.

    What holds for exports holds for it: a retry finds the import that the last try has started, a failure that can pass
    is started again by the next try, and whoever ends the task has it cancelled.

    Returns the operation, an `OperationDict`.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.image/import

    :param kind: ``image`` or ``table`` (templated).
    :param manifest: the API's own ImageManifest or TableManifest, with the asset's ``name`` (templated; also a text of
        JSON, or the name of a ``.json`` template file).
    :param overwrite: replace an asset that is there already; otherwise Earth Engine fails the import (templated).
    :param kwargs: the parameters of `ExportParameters`: how to connect, to wait, to cancel.
    :raises AirflowFailException: where trying again cannot help, for example for a manifest that cannot be right.
    """

    template_fields: Sequence[str] = ("kind", "manifest", "overwrite", *ExportingOperator.template_fields)
    checked_parameters = (
        parameters.Choice("kind", IMPORT_KINDS),
        parameters.Flag("overwrite"),
        *ExportingOperator.checked_parameters,
    )
    template_fields_renderers = {"manifest": "json"}  # noqa: RUF012 (Airflow's own form)

    def __init__(self, *, kind: str, manifest: Any, overwrite: bool | str = False, **kwargs: Any) -> None:
        self.kind = kind
        self.manifest = manifest
        self.overwrite: Any = overwrite
        super().__init__(**kwargs)

    def resolve_template_files(self) -> None:
        """Read the manifest's file, if that is what it names."""
        self.manifest = file_of(self, self.manifest)

    def execute(self, context: Context) -> OperationDict:
        """Start it, write its name down, wait."""
        operation: OperationDict = self.start_and_wait(context, lambda _: Made(place_of(0), [self._import()]))
        return operation

    def _import(self) -> Import:
        return Import(self.kind, read_json(self.manifest, "import's manifest"), overwrite=self.overwrite)
