"""A function's request maps to the same start in each try, in any order."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_ee_provider.earth_engine.model.errors import InvalidRequestError
from airflow_ee_provider.earth_engine.protocol.starting import Export, Import
from airflow_ee_provider.exports.starter import Starter

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.protocol.starting import Start


def starter(known: dict[str, str] | None = None, max_tries: int = 2, **how: Any) -> Starter:
    ti = SimpleNamespace(
        dag_id="dag", run_id="run", task_id="task", map_index=-1, max_tries=max_tries, try_number=how.pop("try_", 1)
    )
    hook: Any = SimpleNamespace(log=logging.getLogger("task"))
    context: Any = {"ti": ti}
    return Starter(hook, context, lambda _: None, known=known, **how)


def tile(one: Starter, number: int = 0) -> Start:
    return one.prepare("image:export", {"description": f"tile-{number}"})


def test_retry_maps_requests_in_any_order_to_the_same_starts() -> None:
    first, retry = starter(), starter(try_=2)

    keys = [tile(first, number).key for number in (0, 1, 2)]

    assert [tile(retry, number).key for number in (2, 1, 0)] == keys[::-1]
    assert (first.is_retry, retry.is_retry) == (False, True)


def test_request_after_a_clear_maps_to_another_start() -> None:
    assert tile(starter()).key != tile(starter(max_tries=5)).key


def test_repeated_request_maps_to_another_start() -> None:
    one = starter()

    assert [tile(one).repeat for _ in range(3)] == [0, 1, 2]


def test_equal_requests_map_first_to_a_start_of_an_earlier_try() -> None:
    third = [tile(one) for one in [starter()] for _ in range(3)][2]

    again = tile(starter(known={third.key: "projects/p/operations/C"}))

    assert again.key == third.key


def test_operation_cancelled_by_the_function_is_set_aside_and_started_again() -> None:
    key = tile(starter()).key
    one = starter(known={key: "projects/p/operations/A"})
    one.deeds.cancelled.add("projects/p/operations/A")

    assert tile(one).key == key
    assert one.deeds.set_aside == {"projects/p/operations/A"}
    assert key not in one.known


def test_export_gets_the_default_tag_and_priority_unless_it_has_its_own() -> None:
    one = starter(workload_tag="mine", priority=7)

    assert one.prepare("image:export", {}).body == {"workloadTag": "mine", "priority": 7}
    assert one.prepare("image:export", {"workloadTag": "own"}).body == {"workloadTag": "own", "priority": 7}
    assert one.prepare("table:import", {"tableManifest": {}}).body == {"tableManifest": {}}


def test_invalid_tag_or_manifest_is_refused_before_any_request() -> None:
    export = Export(
        "image", {"expression": {"x": 1}, "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}}}
    )

    starter(workload_tag="mine").check([export])
    with pytest.raises(InvalidRequestError, match="workloadTag"):
        starter(workload_tag="not a tag").check([export])
    with pytest.raises(InvalidRequestError, match="manifest"):
        starter().check([Import("table", {})])


def test_raise_for_refused_does_nothing_without_starts() -> None:
    one = starter()

    one.raise_for_refused()

    assert not one.in_flight
