from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_ee_provider.earth_engine.model.errors import InvalidOperationNameError
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.model.operations import Operation, OperationState, parse_timestamp

FULL = "projects/my-project/operations/FNVLBTDLZP474YXJJ7QLFRMH"


@pytest.mark.parametrize(
    ("text", "project", "expected"),
    [
        (FULL, None, FULL),
        (FULL, "other", FULL),
        ("ABC", "my-project", "projects/my-project/operations/ABC"),
        ("projects/123/operations/a/b", None, "projects/123/operations/a/b"),
        ("projects/example.com:old/operations/A", None, "projects/example.com:old/operations/A"),
    ],
)
def test_full_name_and_id_with_a_project_are_parsed(text: str, project: str | None, expected: str) -> None:
    assert str(OperationName.parse(text, project)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "ABC",  # Without a project.
        "..",
        "projects/p/operations/",
        "projects/p/operations/..",
        "projects/p/operations/../../x",
        "projects/p/operations/a//b",
        "projects/../operations/A",
        "projects/p/operations/A?alt=json",
        "projects/p/operations/A#x",
        "projects/p/operations/A%2e%2e",
        "projects/p/operations/A\n",
        "projects/p/operations/A\x00",
        "projects/p/operations/A:cancel",
        "https://evil.example/projects/p/operations/A",
        "//evil.example/projects/p/operations/A",
        "projects/p@evil.example/operations/A",
        "projects/p/assets/A",
        "projects/p/operations/Ä",
        None,
        7,
        {"name": FULL},
    ],
)
def test_invalid_name_is_refused_and_shown_in_the_error(text: Any) -> None:
    with pytest.raises(InvalidOperationNameError) as caught:
        OperationName.parse(text)

    assert repr(text) in str(caught.value)


@given(st.text(), st.none() | st.text())
def test_no_parsed_name_can_change_path_query_or_host(text: str, project: str | None) -> None:
    try:
        name = OperationName.parse(text, project)
    except InvalidOperationNameError:
        return
    url = urlsplit(f"https://earthengine.googleapis.com/v1/{name}:cancel")
    assert (url.netloc, url.query, url.fragment) == ("earthengine.googleapis.com", "", "")
    assert url.path == f"/v1/{name}:cancel"
    assert not {"", ".", ".."} & set(url.path.split("/")[1:])
    assert OperationName.parse(str(name)) == name


@pytest.mark.parametrize(
    "texts",
    [FULL, [FULL], (FULL, FULL), [[FULL], None, ""], f"['{FULL}']", f'["{FULL}"]', OperationName.parse(FULL)],
)
def test_single_name_nested_list_and_rendered_list_give_the_same_names(texts: Any) -> None:
    assert OperationName.parse_all(texts) == [OperationName.parse(FULL)]


@pytest.mark.parametrize("texts", [None, "", "None", [], [None]])
def test_empty_value_gives_no_names(texts: Any) -> None:
    assert OperationName.parse_all(texts) == []


def test_every_field_is_read() -> None:
    operation = Operation.from_api(
        {
            "name": FULL,
            "metadata": {
                "state": "RUNNING",
                "description": "ndvi-2024",
                "type": "EXPORT_IMAGE",
                "priority": 100,
                "createTime": "2026-11-24T12:59:01.098873Z",
                "startTime": "2026-11-24T12:59:02+01:00",
                "progress": 0.42,
                "stages": [{"displayName": "Write", "completeWorkUnits": 1, "totalWorkUnits": "4"}, {}],
                "attempt": 2,
                "scriptUri": "https://code.earthengine.google.com/x",
                "destinationUris": ["https://drive.google.com/"],
                "notifications": [{"severity": "WARNING"}],
                "batchEecuUsageSeconds": 12.5,
            },
        }
    )

    assert operation.state is OperationState.RUNNING
    assert operation.create_time == datetime(2026, 11, 24, 12, 59, 1, 98873, timezone.utc)
    assert operation.start_time == datetime(2026, 11, 24, 12, 59, 2, tzinfo=timezone(timedelta(hours=1)))
    assert operation.stages[0].total_work_units == 4
    assert operation.destination_uris == ("https://drive.google.com/",)
    assert operation.describe() == "RUNNING, 42 %, Write 1/4, attempt 2, 12.5 EECU-seconds"
    assert operation.log_line.startswith("RUNNING 42 %: ")
    assert operation.log_line.endswith(", Write 1/4, attempt 2, 12.5 EECU-seconds")
    json.dumps(operation.as_dict())


@pytest.mark.parametrize(
    ("payload", "state"),
    [
        ({}, "STATE_UNSPECIFIED"),
        ({"metadata": {"state": "HIBERNATING"}}, "HIBERNATING"),
        ({"metadata": {"state": "::error::\n"}}, "STATE_UNSPECIFIED"),
        ({"metadata": {"state": 7}}, "STATE_UNSPECIFIED"),
        ({"metadata": {"state": "CANCELLED"}}, "CANCELLED"),
        ({"done": True, "metadata": {"state": "RUNNING"}, "response": {}}, "SUCCEEDED"),
        ({"done": True, "metadata": {"state": "CANCELLING"}, "error": {"code": 1}}, "CANCELLED"),
        ({"done": True, "metadata": {"state": "FAILED"}, "error": {"code": 3}}, "FAILED"),
        ({"done": True, "error": "broken"}, "FAILED"),
    ],
)
def test_done_and_error_decide_the_state_of_an_operation(payload: dict[str, Any], state: str) -> None:
    operation = Operation.from_api({"name": FULL, **payload})

    assert operation.state.value == state
    # An operation in the state CANCELLED counts as cancelled only once it is done.
    assert operation.cancelled == (state == "CANCELLED" and operation.done)


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.floats() | st.text() | st.integers(), st.lists)))
@example({"state": None, "progress": 1e308})
def test_operation_with_odd_metadata_is_still_read(odd: dict[str, Any]) -> None:
    known = ("state", "progress", "stages", "createTime", "batchEecuUsageSeconds", "attempt", "destinationUris")
    metadata = dict(zip(known, odd.values(), strict=False))
    operation = Operation.from_api({"name": FULL, "done": True, "metadata": metadata, "error": metadata.get("state")})

    assert str(operation.name) == FULL
    assert operation.describe()
    assert operation.progress_key
    json.dumps(operation.as_dict())


@pytest.mark.parametrize("digits", ["", ".5", ".098", ".098873", ".098873123"])
@pytest.mark.parametrize("zone", ["Z", "+00:00"])
def test_timestamps_have_any_number_of_digits(digits: str, zone: str) -> None:
    parsed = parse_timestamp(f"2026-11-24T12:59:01{digits}{zone}")

    assert parsed is not None
    assert parsed.replace(microsecond=0) == datetime(2026, 11, 24, 12, 59, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize("text", ["1970-01-01T00:00:00Z", "", "soon", None, 17, "2026-13-01T00:00:00Z"])
def test_unset_or_invalid_timestamp_is_none(text: Any) -> None:
    assert parse_timestamp(text) is None


def test_size_of_the_fields_kept_from_a_response_is_bounded() -> None:
    large = "x" * 10_000_000
    metadata = {"state": "RUNNING", "description": large, "destinationUris": [large] * 5_000}

    kept = Operation.from_api({"name": FULL, "metadata": metadata})

    assert len(kept.description) == 10_000
    assert (len(kept.destination_uris), len(kept.destination_uris[0])) == (1_000, 10_000)
