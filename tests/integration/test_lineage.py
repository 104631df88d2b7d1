"""The lineage of an export that OpenLineage receives, where it is installed."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AssetAlias

from airflow_ee_provider.exports.results import add_outlet_assets, operator_lineage


def test_destinations_are_reported_as_outputs() -> None:
    lineage = operator_lineage(["https://console.developers.google.com/storage/browser/b/ndvi/2024"])

    assert [(output.namespace, output.name) for output in lineage.outputs] == [("gs://b", "ndvi/2024")]


ODD = ["", "javascript:alert(1)", "https://[broken", "https://" + "x" * 9999, "https://x.example/storage/browser/"]


class Log:
    """A log that discards its messages."""

    def info(self, *_: object) -> None: ...

    warning = error = info


def test_odd_destinations_raise_no_error() -> None:
    """An export with an odd address has succeeded all the same."""
    assert len(operator_lineage(ODD).outputs) == 1
    add_outlet_assets({}, [AssetAlias("a")], ODD, Log())  # type: ignore[typeddict-item]
