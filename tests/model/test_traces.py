"""The model is true to Airflow: what was seen of a real task can be seen of one in the model."""

from __future__ import annotations

import pytest
from exploring import VERSIONS
from traces import Trace, accepts, read

pytestmark = pytest.mark.nightly

KEPT = [trace for trace in read() if trace.is_in_model and trace.minor_version in VERSIONS]


@pytest.mark.parametrize("trace", KEPT, ids=str)
def test_what_was_seen_of_a_real_task_can_happen_in_the_model(trace: Trace) -> None:
    assert accepts(trace) is not None, " → ".join(f"{what} ({moment:g} s)" for moment, what in trace.seen)


def test_a_trace_of_something_that_cannot_happen_is_refused() -> None:
    impossible = ((0.0, "try 1"), (1.0, "~~~"), (2.0, "deferred"), (3.0, "export"))

    assert accepts(Trace(f"{VERSIONS[0]}.0", "export_deferred", "task_marked_failed", impossible)) is None
