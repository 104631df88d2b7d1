from __future__ import annotations

from typing import Any

from playing import lost, ok, operation, play, refused

from airflow_ee_provider.earth_engine.model import errors
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.protocol.reading import GETS_PER_LIST_PAGE, list_is_cheaper, read_operations

FEW = [OperationName("p", f"A{number}") for number in range(3)]
MANY = [OperationName("p", f"A{number}") for number in range(GETS_PER_LIST_PAGE + 1)]
MORE = [OperationName("p", f"A{number}") for number in range(3 * GETS_PER_LIST_PAGE)]


def page(names: list[OperationName], token: str = "", **more: Any) -> Any:
    return ok({"operations": [operation("RUNNING", str(name)) for name in names], "nextPageToken": token, **more})


def test_few_operations_are_read_one_by_one() -> None:
    played = play(read_operations(FEW), [ok(operation("RUNNING", str(name))) for name in FEW])

    assert played.sent == [f"GET {name}" for name in FEW]
    assert list(played.result or ()) == FEW


def test_many_operations_are_read_from_a_list_only_up_to_the_last_of_them() -> None:
    others = [OperationName("p", f"B{number}") for number in range(400)]

    played = play(read_operations(MORE), [page([*others, *MORE[:5]], "2"), page(MORE[5:], "3")])

    assert played.sent == ["GET projects/p/operations"] * 2
    assert set(played.result or ()) == set(MORE)


def test_operations_missing_from_a_list_are_read_by_name() -> None:
    gone = refused(404, "NOT_FOUND")

    played = play(read_operations(MANY), [page(MANY[2:]), ok(operation("SUCCEEDED", str(MANY[0]))), gone])

    assert played.sent[1:] == [f"GET {MANY[0]}", f"GET {MANY[1]}"]
    assert played.result
    assert played.result[MANY[0]].succeeded
    assert isinstance(played.result[MANY[1]], errors.OperationNotFoundError)


def test_operations_are_read_one_by_one_without_the_permission_to_list() -> None:
    denied = refused(403, "PERMISSION_DENIED")

    played = play(read_operations(MANY), [denied, *(ok(operation("RUNNING", str(name))) for name in MANY)])

    assert set(played.result or ()) == set(MANY)


def test_failing_list_does_not_cause_a_flood_of_requests() -> None:
    played = play(read_operations(MANY), [lost()] * 8)

    assert played.sent == ["GET projects/p/operations"] * 6 + [f"GET {name}" for name in MANY[:2]]
    assert all(isinstance(error, errors.TransientError) for error in (played.result or {}).values())


def test_operations_are_read_one_by_one_if_only_the_list_fails() -> None:
    """Two operations are tried first, as one of them may be the reason for the list's error."""
    gets = [ok(operation("RUNNING", str(name))) for name in MANY[1:]]

    played = play(read_operations(MANY), [refused(500)] * 7 + [gets[0], *[refused(500)] * 6, *gets[1:]])

    found = played.result or {}
    assert [name for name, one in found.items() if isinstance(one, errors.TransientError)] == [MANY[0]]
    assert set(found) == set(MANY)


def test_list_with_a_retry_after_beyond_the_time_limit_does_not_fail_the_whole_read() -> None:
    late = refused(503, **{"retry-after": "60"})

    played = play(read_operations(MANY, until=5.0), [late] * 3)

    assert set(played.result or ()) == set(MANY)


def test_list_that_repeats_a_page_token_ends() -> None:
    gets = [ok(operation("RUNNING", str(name))) for name in MORE[5:]]

    played = play(read_operations(MORE), [page(MORE[:3], "2"), page(MORE[3:5], "2"), *gets])

    assert set(played.result or ()) == set(MORE)


def test_odd_entry_of_a_list_does_not_affect_the_others() -> None:
    odd = ok({"operations": ["?", {"name": ["x"]}, {}, *(operation("RUNNING", str(name)) for name in MANY)]})

    assert set(play(read_operations(MANY), [odd]).result or ()) == set(MANY)


def test_projects_are_read_separately() -> None:
    others = [OperationName("q", "X")]

    played = play(read_operations([*MANY, *others]), [page(MANY), ok(operation("RUNNING", str(others[0])))])

    assert played.sent == ["GET projects/p/operations", f"GET {others[0]}"]


def test_list_is_abandoned_if_its_pages_cost_more_than_gets() -> None:
    others = [OperationName("p", f"B{number}") for number in range(400)]
    gets = [ok(operation("RUNNING", str(name))) for name in MANY[5:]]

    played = play(read_operations(MANY), [page([*others, *MANY[:5]], "2"), *gets])

    assert played.sent == ["GET projects/p/operations", *(f"GET {name}" for name in MANY[5:])]
    assert set(played.result or ()) == set(MANY)
    assert list_is_cheaper(3000)
