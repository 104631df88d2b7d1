"""Which records have to be read, according to their stored text."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from airflow_ee_provider.tracking.record import Record
from airflow_ee_provider.tracking.record_tables import may_name, parts_before

RECORD = Record(("projects/p/operations/A", "projects/123/operations/B/C")).as_json()
LATER = RECORD | {"parts_before": 2}


@pytest.mark.parametrize(
    ("value", "ids", "may"),
    [
        (json.dumps(RECORD), {"A"}, True),
        (json.dumps(RECORD), {"B/C"}, True),
        (json.dumps(RECORD), {"B", "AA"}, False),
        (json.dumps(RECORD, separators=(",", ":")), {"X"}, False),
        (json.dumps(json.dumps(RECORD)), {"A"}, True),  # Airflow's older form: JSON within JSON.
        (json.dumps(json.dumps(RECORD)), {"X"}, False),
        (json.dumps(RECORD).encode(), {"A"}, True),
        (memoryview(json.dumps(RECORD).encode()), {"X"}, False),
        (json.dumps(LATER), {"X"}, True),  # An earlier part may name it.
        (pickle.dumps(RECORD), {"X"}, True),
        (json.dumps("s3://bucket/xcom/1"), {"X"}, True),  # An XCom backend's reference.
        (None, {"X"}, True),
    ],
)
def test_record_is_read_unless_its_text_names_only_other_operations(value: Any, ids: set[str], may: bool) -> None:
    assert may_name(value, ids) is may


@pytest.mark.parametrize(("value", "number"), [(RECORD, 0), (LATER, 2), ("nonsense", 0), (OSError("gone"), 0)])
def test_unreadable_value_has_no_parts_before_it(value: Any, number: int) -> None:
    assert parts_before(value) == number
