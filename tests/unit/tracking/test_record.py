"""A record is fully checked when it is read: users who may write XComs may write anything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_ee_provider.base.parameters import CONNECTION_FIELDS
from airflow_ee_provider.earth_engine.model.errors import InvalidOperationNameError
from airflow_ee_provider.tracking.record import Ownership, Record
from airflow_ee_provider.tracking.run import by_account

ACCOUNT = {"earth_engine_conn_id": "c", "project_id": None, "impersonation_chain": ["a", "b"]}
GOOD = Record(
    ("projects/p/operations/A",),
    ACCOUNT,
    "task",
    -1,
    1,
    2,
    "2026-11-29T08:00:00+00:00",
    ("key",),
    Ownership.HANDED_OFF.value,
    ("kill",),
    3,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def read(value: Any) -> Record | None:
    try:
        return Record.from_json(value)
    except InvalidOperationNameError:
        return None


def assert_sound(record: Record) -> None:
    assert record.operation_names
    assert all(isinstance(name, str) for name in record.operation_names)
    assert record.ownership in {one.value for one in Ownership}
    assert record.account is None or set(record.account) == set(CONNECTION_FIELDS)
    by_account([record], ACCOUNT)  # As in the clean-up.
    assert Record.from_json(record.as_json()) == record


def test_a_record_is_read_as_it_was_written() -> None:
    assert Record.from_json(GOOD.as_json()) == GOOD


def test_fields_of_a_later_version_are_ignored() -> None:
    account = {**ACCOUNT, "universe": "u"}

    assert Record.from_json({**GOOD.as_json(), "region": "r", "account": account}) == GOOD


@given(JSON)
def test_any_json_is_a_sound_record_or_is_refused(value: Any) -> None:
    if (record := read(value)) is not None:
        assert_sound(record)


@given(st.sampled_from(sorted(GOOD.as_json())), JSON)
def test_record_with_one_odd_field_is_sound_or_is_refused(name: str, value: Any) -> None:
    if (record := read({**GOOD.as_json(), name: value})) is not None and record.operation_names:
        assert_sound(record)


@given(st.sampled_from(CONNECTION_FIELDS), JSON)
def test_account_with_one_odd_field_is_sound_or_is_refused(name: str, value: Any) -> None:
    if (record := read({**GOOD.as_json(), "account": {**ACCOUNT, name: value}})) is not None:
        assert_sound(record)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("account", "abc"),
        ("account", {}),
        ("account", {**ACCOUNT, "earth_engine_conn_id": ["c"]}),
        ("account", {**ACCOUNT, "impersonation_chain": [1]}),
        ("ownership", "nonsense"),
        ("ownership", []),
        ("run_started", "yesterday"),
        ("try_number", "1"),
        ("try_number", True),
        ("parts_before", -1),
        ("parts_before", 10**9),
        ("cancel_on", "kill"),
        ("start_keys", {"a": 1}),
        ("operation_names", 5),
        ("operation_names", [["a"]]),
        ("version", 2),
    ],
)
def test_invalid_field_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidOperationNameError, match=r"record|operation"):
        Record.from_json({**GOOD.as_json(), name: value})
