"""Any response, with any content, is at most one operation's error, and stops no other request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import NAME, ok, operation, play

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.protocol import api_methods, cancelling, stale
from airflow_ee_provider.earth_engine.protocol.effects import Response
from airflow_ee_provider.earth_engine.protocol.retries import BACKOFF

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.earth_engine.protocol.effects import Flow

ABC = OperationName.parse(NAME)
CALLS: dict[str, Callable[[], Flow[Any]]] = {
    "get": lambda: api_methods.get_operation(ABC),
    "list": lambda: api_methods.list_operations("p"),
    "find": lambda: api_methods.find_operations("p", [ABC], most_pages=9),
    "stale": lambda: stale.list_stale_operations("p", stale.StaleCriteria(select_all=True)),
    "cancel": lambda: api_methods.cancel_operation(ABC),
    "delete": lambda: api_methods.delete_operation(ABC),
    "start": lambda: api_methods.start_export("p", "image", {"expression": {}}, "id"),
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "name": JSON | st.just(NAME),
        "done": JSON,
        "error": JSON,
        "metadata": JSON
        | st.fixed_dictionaries(
            {},
            optional={
                name: JSON | st.sampled_from(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1e999"])
                for name in ("state", "createTime", "startTime", "priority", "batchEecuUsageSeconds", "stages")
            },
        ),
        "operations": JSON,
        "nextPageToken": JSON,
    },
)
BODIES = st.binary() | st.builds(lambda value: json.dumps(value).encode(), FIELDS | st.lists(FIELDS, max_size=2))
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        name: st.text(max_size=30) | st.sampled_from(["²", "9" * 5000, "Fri, 31 Dec 9999 23:59:59 -2359", "-1", "nan"])
        for name in ("retry-after", "date")
    },
)
ANSWERS = st.builds(Response, st.integers(100, 599), BODIES, HEADERS)


@pytest.mark.parametrize("name", CALLS)
@given(answer=ANSWERS)
@settings(max_examples=200)
def test_any_response_gives_a_result_or_an_error_of_ours(name: str, answer: Response) -> None:
    played = play(CALLS[name](), [answer] * 100)

    assert played.error is None or isinstance(played.error, EarthEngineError)


BAD = {
    "deep": b"[" * 100_000,
    "digits": b'{"name": ' + b"9" * 5000 + b"}",
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "empty": b"",
    "a number": b"7",
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_bad_response_stops_no_other_cancel(body: bytes) -> None:
    others = [OperationName("p", f"X{number}") for number in range(3)]
    running, bad = [ok(operation("RUNNING", str(name))) for name in others], [Response(200, body)]
    answers = [*running, *bad * BACKOFF.attempts, ok(), ok(), ok(), *bad * 100]

    played = play(cancelling.request_cancels([*others, ABC]), answers)

    assert played.result is not None
    assert [result.outcome.value for result in played.result] == ["STILL_CANCELLING"] * 3 + ["ERROR"]
