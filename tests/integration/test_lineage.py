"""What OpenLineage, where it is installed, is told of an export."""

from __future__ import annotations

from airflow_ee_provider.lineage import operator_lineage


def test_destinations_are_outputs() -> None:
    lineage = operator_lineage(["https://console.developers.google.com/storage/browser/b/ndvi/2024"])

    assert [(output.namespace, output.name) for output in lineage.outputs] == [("gs://b", "ndvi/2024")]
