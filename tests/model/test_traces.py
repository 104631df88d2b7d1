"""The model behaves like Airflow: it can reproduce the traces of real tasks."""

from __future__ import annotations

import pytest
from exploring import VERSIONS
from traces import Trace, accepts, read

pytestmark = pytest.mark.nightly

KEPT = [trace for trace in read() if trace.is_in_model and trace.minor_version in VERSIONS]


@pytest.mark.parametrize("trace", KEPT, ids=str)
def test_the_model_can_reproduce_the_trace_of_a_real_task(trace: Trace) -> None:
    assert accepts(trace) is not None, " → ".join(f"{what} ({moment:g} s)" for moment, what in trace.seen)


def test_an_impossible_trace_is_refused() -> None:
    impossible = ((0.0, "try 1"), (1.0, "~~~"), (2.0, "deferred"), (3.0, "export"))

    assert accepts(Trace(f"{VERSIONS[0]}.0", "export_deferred", "task_marked_failed", impossible)) is None
