"""The shared poller's decisions, at given times: no clock, no socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from airflow_ee_provider.earth_engine.model.errors import TransientError
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.model.operations import Operation, OperationState
from airflow_ee_provider.earth_engine.protocol.effects import ReadOperations
from airflow_ee_provider.earth_engine.transport.shared_poller import SHORTEST_WAIT, PollPlan

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.transport.shared_poller import Waiter


def named(number: int, project: str = "p") -> OperationName:
    return OperationName.parse(f"projects/{project}/operations/{number}")


def names(numbers: range, project: str = "p") -> tuple[OperationName, ...]:
    return tuple(named(number, project) for number in numbers)


def running(name: OperationName) -> Operation:
    return Operation(name, OperationState.RUNNING, done=False)


def ended(name: OperationName) -> Operation:
    return Operation(name, OperationState.SUCCEEDED, done=True)


def waiting(plan: PollPlan, *wanted: OperationName, after: float = 0.0, now: float = 0.0) -> Waiter:
    return plan.add(ReadOperations(wanted, after), now)


def test_an_operation_is_read_when_it_is_due() -> None:
    plan = PollPlan()
    waiting(plan, named(1), after=30)

    assert list(plan.ticks) == [30]
    assert plan.begin(29) == {}
    assert plan.begin(30) == {"p": {named(1)}}
    assert not plan.ticks  # It is being read.


def test_operation_with_two_waiters_is_read_once_for_both() -> None:
    plan = PollPlan()
    both = [waiting(plan, named(1), after=5), waiting(plan, named(1), after=5)]

    assert plan.begin(5) == {"p": {named(1)}}
    assert set(plan.answer({named(1): running(named(1))})) == set(both)


def test_immediate_reads_shortly_after_each_other_share_a_tick() -> None:
    plan = PollPlan()
    waiting(plan, named(1), now=10)
    waiting(plan, named(2), now=10 + SHORTEST_WAIT / 2)
    waiting(plan, named(3), now=10 + SHORTEST_WAIT * 2)

    assert list(plan.ticks) == [10 + SHORTEST_WAIT, 10 + SHORTEST_WAIT * 3]
    assert plan.begin(10 + SHORTEST_WAIT) == {"p": {named(1), named(2)}}


def test_waiter_joins_a_planned_tick_after_half_of_its_time() -> None:
    plan = PollPlan()
    waiting(plan, named(1), after=30)

    early, joining = waiting(plan, named(100), after=100), waiting(plan, named(200), after=40)

    assert early.tick == 100
    assert joining.tick == 30


def test_waits_that_begin_at_different_times_converge_to_one_tick() -> None:
    plan = PollPlan()
    for number in range(300):
        waiting(plan, named(number), after=30, now=number / 10)

    for _ in range(3):  # Each is read, and asks again.
        tick = min(plan.ticks)
        for name in plan.begin(tick)["p"]:
            for waiter in plan.answer({name: running(name)}):
                plan.remove(waiter)
            waiting(plan, name, after=30, now=tick)

    assert len(plan.ticks) == 1


def test_end_is_reported_at_once_to_each_waiter() -> None:
    plan = PollPlan()
    patient = waiting(plan, named(1), named(2), after=1000)

    assert plan.answer({named(1): running(named(1))}) == []
    assert plan.answer({named(1): ended(named(1))}) == [patient]


def test_error_is_reported_only_to_waiters_of_its_operation() -> None:
    plan = PollPlan()
    one, other = waiting(plan, named(1)), waiting(plan, named(2))
    plan.begin(one.tick)

    assert plan.answer({named(1): TransientError("gone")}) == [one]
    assert other in plan.waiting_for([named(2)])


def test_each_project_is_read_separately() -> None:
    plan = PollPlan()
    for name in (*names(range(50), "many"), *names(range(2), "few")):
        waiting(plan, name)

    assert plan.begin(SHORTEST_WAIT) == {"many": set(names(range(50), "many")), "few": set(names(range(2), "few"))}


def test_immediate_read_does_not_wait_for_a_running_get() -> None:
    plan = PollPlan()
    waiting(plan, named(1), after=5)
    assert plan.begin(5) == {"p": {named(1)}}

    assert plan.begin(waiting(plan, named(1), now=6).tick) == {"p": {named(1)}}


def test_removed_waiter_causes_no_read() -> None:
    plan = PollPlan()
    plan.remove(waiting(plan, named(1), after=5))

    assert plan.begin(5) == {}
    assert plan.answer({named(1): ended(named(1))}) == []


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 60), min_size=1, max_size=40, unique=True),
            st.sampled_from(["p", "q"]),
            st.floats(0, 60),
            st.floats(0, 60),
        ),
        max_size=12,
    )
)
def test_each_waiter_is_answered_no_later_than_its_time(
    asked: list[tuple[list[int], str, float, float]],
) -> None:
    """Waiters may come at any time: once all due operations are read, no due waiter is left."""
    plan = PollPlan()
    late: dict[Waiter, float] = {}

    def read_until(now: float) -> None:
        while plan.ticks and (tick := min(plan.ticks)) <= now:
            found = {name: running(name) for wanted in plan.begin(tick).values() for name in wanted}
            for waiter in plan.answer(found):
                assert tick <= late.pop(waiter)
                plan.remove(waiter)

    for numbers, project, after, now in sorted(asked, key=lambda one: one[3]):
        read_until(now)
        waiter = waiting(plan, *(named(number, project) for number in numbers), after=after, now=now)
        late[waiter] = now + max(after, SHORTEST_WAIT)
    read_until(1000.0)

    assert not late
