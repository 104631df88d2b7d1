"""How many exports a task starts now, and what it waits for: the whole rule as a table, without a clock."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_ee_provider.exports.queue import GiveUp, QueueState, QueueWait, StartMore, next_step

NOW = 1000.0


def row(what: str, step: object, **known: Any) -> Any:
    return pytest.param(QueueState(**{"now": NOW, **known}), step, id=what)


def full(seconds: float, **known: Any) -> dict[str, Any]:
    """Return the state of a queue that has been full for some seconds."""
    return {"is_full": True, "full_since": NOW - seconds, **known}


ROWS = [
    row("all is started", None),
    row("all is started, the queue is full", None, **full(900), queue_timeout=1.0),
    row("nothing is limited", StartMore(None), unstarted=12),
    row("some may run at once", StartMore(4), unstarted=12, max_active_operations=4),
    row("one has ended", StartMore(1), unstarted=8, running=3, counted=3, max_active_operations=4),
    row("what is not counted takes no room", StartMore(3), unstarted=8, running=9, counted=1, max_active_operations=4),
    row("as many run as may", QueueWait(4, 3), unstarted=8, running=4, counted=4, max_active_operations=4),
    row("more run than may", QueueWait(6, 5), unstarted=8, running=6, counted=6, max_active_operations=4),
    row("a quarter has to end", QueueWait(40, 30), unstarted=8, running=40, counted=40, max_active_operations=40),
    row(
        "a quarter of what is counted", QueueWait(50, 40), unstarted=8, running=50, counted=40, max_active_operations=9
    ),
    row("it was full, and is tried again", StartMore(None), unstarted=7, running=5, counted=5, full_since=NOW - 30),
    row("it has just become full", QueueWait(5, 4, 30.0, NOW), unstarted=7, running=5, counted=5, **full(0)),
    row("others fill it", QueueWait(0, -1, 30.0, NOW), unstarted=7, **full(0)),
    row("it is full for longer", QueueWait(0, -1, 90.0, NOW - 90), unstarted=7, **full(90)),
    row("it is full for hours", QueueWait(0, -1, 300.0, NOW - 9000), unstarted=7, **full(9000)),
    row(
        "no longer than the author says", QueueWait(0, -1, 10.0, NOW - 50), unstarted=7, **full(50), queue_timeout=60.0
    ),
    row("it was full for too long", GiveUp(60.0), unstarted=7, **full(60), queue_timeout=60.0),
    row(
        "the limit is reached in a full queue", QueueWait(4, 3, 30.0, NOW), unstarted=8, running=4, counted=4, **full(0)
    ),
    row(
        "a task at its own limit waits for itself, not for others",
        QueueWait(4, 3),
        unstarted=8,
        running=4,
        counted=4,
        max_active_operations=4,
        queue_timeout=60.0,
        full_since=NOW - 90,
    ),
]


@pytest.mark.parametrize(("state", "step"), ROWS)
def test_next_step(state: QueueState, step: object) -> None:
    assert next_step(state) == step


@pytest.mark.parametrize(
    ("before", "started", "is_full", "since"),
    [
        (None, 3, False, None),
        (None, 3, True, NOW),
        (None, 0, True, NOW),
        (400.0, 0, True, 400.0),  # It has been full all the time.
        (400.0, 3, True, NOW),  # There was room in between.
        (400.0, 0, False, None),
    ],
)
def test_time_of_a_full_queue_begins_again_with_each_start(
    before: float | None, started: int, is_full: bool, since: float | None
) -> None:
    state = QueueState(unstarted=12, running=2, counted=1, full_since=before)

    after = state.after_start(started, is_full=is_full, now=NOW)

    assert after.full_since == since
    assert (after.unstarted, after.running, after.counted) == (12 - started, 2 + started, 1 + started)
    assert (after.is_full, after.now) == (is_full, NOW)


@given(
    unstarted=st.integers(0, 50),
    others=st.integers(0, 20),
    limit=st.none() | st.integers(1, 10),
    room=st.lists(st.integers(0, 10), max_size=20),
)
def test_task_starts_all_exports_and_never_exceeds_its_limit(
    unstarted: int, others: int, limit: int | None, room: list[int]
) -> None:
    """Run a task whose queue accepts a given number of exports at each attempt, and all after the last given one."""
    state, attempts = QueueState(limit, unstarted=unstarted, running=others), iter(room)
    for _ in range(500):
        step = next_step(state)
        if isinstance(step, StartMore):
            wanted = state.unstarted if step.up_to is None else min(step.up_to, state.unstarted)
            taken = min(wanted, next(attempts, wanted))
            state = state.after_start(taken, is_full=taken < wanted, now=state.now)
            assert limit is None or state.counted <= limit
        elif isinstance(step, QueueWait):
            assert step.unfinished < state.running or not state.running
            assert step.timeout is not None or state.running
            ended = max(0, state.running - max(0, step.unfinished))
            of_its_own = min(ended, state.counted)
            state = QueueState(
                limit,
                unstarted=state.unstarted,
                running=state.running - ended,
                counted=state.counted - of_its_own,
                full_since=step.full_since,
                now=state.now + (step.timeout or 0.0),
            )
        else:
            break

    assert step is None
    assert not state.unstarted


def test_wait_is_described_in_a_sentence() -> None:
    assert str(QueueWait(0, -1, 30.0, NOW)) == (
        "The project's queue is full with other users' operations; trying again in 30 s"
    )
    assert str(QueueWait(4000, 3000)) == "4,000 are running; more start after 1,000 of them have ended"
    assert str(GiveUp(0.5)).startswith("The project's queue was full for 0.5 s (queue_timeout), so no more exports")


def test_trigger_gets_the_same_wait() -> None:
    assert QueueWait(5, 4, 30.0, NOW).as_trigger_kwargs() == {"unfinished": 4, "room_timeout": 30.0, "since": NOW}
