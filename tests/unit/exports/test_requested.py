"""The exports that a function returns, and which of its operations a later one supersedes."""

from __future__ import annotations

from airflow_ee_provider.earth_engine.ee_client.objects import place_of
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.protocol.starting import Export, Import, Start
from airflow_ee_provider.exports.requested import Made, superseded

EXPORT = Export("image", {"fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}}})
IMPORT = Import("table", {"name": "projects/p/assets/t"})
ADOPTED = OperationName.parse("projects/p/operations/A")


def to_asset(name: str) -> Start:
    destination = {"earthEngineDestination": {"name": f"projects/p/assets/{name}"}}
    return Start("image:export", {"assetExportOptions": destination}, "dag/run/task")


def test_returned_operations_are_replaced_with_places_in_the_value() -> None:
    made = Made.of([EXPORT, ADOPTED])

    assert made == Made([place_of(0), place_of(1)], [EXPORT, ADOPTED])
    assert Made.of(made) is made


def test_started_operations_are_adopted_and_other_requests_are_to_be_started() -> None:
    made = Made.of([IMPORT, ADOPTED, EXPORT])

    assert made.adopted == ["projects/p/operations/A"]
    assert made.requests == [IMPORT, EXPORT]
    assert "/b" in made.output_url
    assert not Made.of([IMPORT, ADOPTED]).output_url


def test_last_operation_supersedes_others_with_the_same_destination() -> None:
    started = {"a": to_asset("x"), "b": to_asset("y"), "c": to_asset("x"), "d": to_asset("x")}

    assert superseded(started) == ["a", "c"]
