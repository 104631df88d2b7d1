from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from playing import NAME, lost, ok, play, refused

from airflow_ee_provider.earth_engine.model import errors
from airflow_ee_provider.earth_engine.protocol.effects import Request, Response
from airflow_ee_provider.earth_engine.protocol.error_rules import RULES, parse_response
from airflow_ee_provider.earth_engine.protocol.retries import BACKOFF, Backoff, call

GET = Request("GET", NAME, NAME)

PERMANENT = [rule for rule in RULES if rule.error.permanent]
PASSING = [rule for rule in RULES if not rule.error.permanent]


@pytest.mark.parametrize("rule", PERMANENT, ids=lambda rule: rule.status)
def test_permanent_error_is_raised_at_once_and_keeps_the_servers_message(rule: Any) -> None:
    played = play(call(GET), [refused(rule.http_status, rule.status, "The server's own words.")])

    assert type(played.error) is rule.error
    assert "The server's own words." in str(played.error)
    assert NAME in str(played.error)
    assert len(played.requests) == 1


@pytest.mark.parametrize("rule", PASSING, ids=lambda rule: f"{rule.http_status}-{rule.status}")
def test_transient_error_is_retried(rule: Any) -> None:
    played = play(call(GET), [refused(rule.http_status, rule.status), lost(), ok({"a": 1})])

    assert played.result == {"a": 1}
    assert len(played.sleeps) == 2
    assert all(note.warning for note in played.notes)


@pytest.mark.parametrize(
    "answer",
    [
        lost(),
        refused(503),
        Response(200, b'{"name": "proj'),
        Response(400, b'{"error": {"code": 400, "mess'),
        Response(200, b""),
        Response(200, b"[]"),
    ],
    ids=["lost", "unavailable", "truncated", "a truncated error", "empty", "list"],
)
def test_after_the_last_attempt_the_error_is_transient(answer: Any) -> None:
    played = play(call(GET), [answer] * BACKOFF.attempts)

    assert type(played.error) is errors.TransientError
    assert len(played.requests) == BACKOFF.attempts


def test_a_request_that_must_not_be_repeated_is_sent_once() -> None:
    request = Request("POST", "projects/p/image:export", "projects/p", repeatable=False)

    played = play(call(request), [lost()])

    assert type(played.error) is errors.TransientError
    assert len(played.requests) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "Tue, 24 Nov 2026 13:00:09 GMT", "date": "Tue, 24 Nov 2026 13:00:00 GMT"}, 9.0),
    ],
)
def test_retry_after_is_honoured_as_seconds_and_as_a_date(headers: dict[str, str], seconds: float) -> None:
    backoff = Backoff(initial_delay=0.001)

    played = play(call(GET, backoff), [refused(429, "RESOURCE_EXHAUSTED", **headers), ok()])

    assert played.sleeps == [seconds]


def test_retry_after_of_an_hour_is_an_error_at_once() -> None:
    played = play(call(GET), [refused(429, "RESOURCE_EXHAUSTED", **{"retry-after": "3600"})])

    assert type(played.error) is errors.TransientError


@given(st.integers(), st.integers(1, 5))
def test_back_off_has_full_jitter_below_a_doubling_bound(seed: int, attempt: int) -> None:
    delay = Backoff(jitter=random.Random(seed)).delay(attempt, None)

    assert delay is not None
    assert 0.0 <= delay <= min(32.0, 2.0 ** (attempt - 1))


@pytest.mark.parametrize(
    ("message", "http_status", "status", "kind", "remedy"),
    [
        (
            "Project x is not registered to use Earth Engine. Visit https://…",
            403,
            "PERMISSION_DENIED",
            errors.PermissionDeniedError,
            "Register the project",
        ),
        ("Google Earth Engine API has not been used in project 1", 403, "", errors.PermissionDeniedError, "Enable"),
        (
            "Grant the caller the roles/serviceusage.serviceUsageConsumer role",
            403,
            "",
            None,
            "serviceusage.services.use",
        ),
        ("Permission 'earthengine.operations.update' denied", 403, "", None, "roles/earthengine.writer"),
        ("Permission 'x' denied", 403, "PERMISSION_DENIED", None, "earthengine.operations.get and .list"),
        (
            "Your usage exceeded the custom quota for 'earthengine.googleapis.com/daily_eecu_usage_time'",
            429,
            "RESOURCE_EXHAUSTED",
            errors.QuotaExceededError,
            "used up",
        ),
        ("not supported", 501, "UNIMPLEMENTED", errors.UnimplementedError, "does not support the method"),
        ("nothing there", 404, "NOT_FOUND", errors.OperationNotFoundError, "Check the name"),
        ("bad token", 401, "UNAUTHENTICATED", errors.CredentialsError, "credentials"),
    ],
)
def test_an_error_says_what_to_do_next(message: str, http_status: int, status: str, kind: Any, remedy: str) -> None:
    played = play(call(GET), [refused(http_status, status, message)])

    assert kind is None or type(played.error) is kind
    assert message in str(played.error)
    assert remedy in str(played.error)


def test_a_proxys_page_is_shown_without_its_markup() -> None:
    page = b"<html><head><style>x{}</style></head><body><h1>Access  denied</h1>by the proxy</body></html>"

    played = play(call(GET), [Response(403, page)])

    assert type(played.error) is errors.PermissionDeniedError
    assert "'Access denied by the proxy'" in str(played.error)


@given(st.lists(st.sampled_from([lost(), refused(429), refused(500), refused(404), ok({}), Response(302)])))
def test_every_call_ends_within_its_attempts(answers: list[Any]) -> None:
    played = play(call(GET), [*answers, *[refused(503)] * BACKOFF.attempts])

    assert len(played.requests) <= BACKOFF.attempts
    assert played.result is not None or isinstance(played.error, errors.EarthEngineError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["error", "status", "message", "details"]), inner),
    max_leaves=10,
)


@given(st.integers(100, 599), st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
@example(503, b'{"error": {"details": true}}')
def test_any_response_gives_an_object_or_an_error_that_names_its_subject(status: int, body: bytes) -> None:
    result = parse_response(GET, Response(status, body))

    if isinstance(result, errors.EarthEngineError):
        assert GET.subject in str(result)
    else:
        assert 200 <= status < 300
        assert isinstance(result, dict)
