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


def test_an_operation_that_two_wait_for_is_read_once_for_both() -> None:
    plan = PollPlan()
    both = [waiting(plan, named(1), after=5), waiting(plan, named(1), after=5)]

    assert plan.begin(5) == {"p": {named(1)}}
    assert set(plan.answer({named(1): running(named(1))})) == set(both)


def test_who_asks_for_an_answer_at_once_shares_a_tick_with_who_asks_a_moment_later() -> None:
    plan = PollPlan()
    waiting(plan, named(1), now=10)
    waiting(plan, named(2), now=10 + SHORTEST_WAIT / 2)
    waiting(plan, named(3), now=10 + SHORTEST_WAIT * 2)

    assert list(plan.ticks) == [10 + SHORTEST_WAIT, 10 + SHORTEST_WAIT * 3]
    assert plan.begin(10 + SHORTEST_WAIT) == {"p": {named(1), named(2)}}


def test_who_is_half_way_to_its_time_joins_a_tick_that_is_planned() -> None:
    plan = PollPlan()
    waiting(plan, named(1), after=30)

    early, joining = waiting(plan, named(100), after=100), waiting(plan, named(200), after=40)

    assert early.tick == 100
    assert joining.tick == 30


def test_waits_that_begin_at_any_time_fall_into_step() -> None:
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


def test_an_end_is_told_at_once_whoever_it_was_read_for() -> None:
    plan = PollPlan()
    patient = waiting(plan, named(1), named(2), after=1000)

    assert plan.answer({named(1): running(named(1))}) == []
    assert plan.answer({named(1): ended(named(1))}) == [patient]


def test_an_error_is_an_answer_for_its_operation_alone() -> None:
    plan = PollPlan()
    one, other = waiting(plan, named(1)), waiting(plan, named(2))
    plan.begin(one.tick)

    assert plan.answer({named(1): TransientError("gone")}) == [one]
    assert other in plan.waiting_for([named(2)])


def test_each_project_is_read_for_itself() -> None:
    plan = PollPlan()
    for name in (*names(range(50), "many"), *names(range(2), "few")):
        waiting(plan, name)

    assert plan.begin(SHORTEST_WAIT) == {"many": set(names(range(50), "many")), "few": set(names(range(2), "few"))}


def test_who_asks_at_once_does_not_wait_for_a_get_that_is_under_way() -> None:
    plan = PollPlan()
    waiting(plan, named(1), after=5)
    assert plan.begin(5) == {"p": {named(1)}}

    assert plan.begin(waiting(plan, named(1), now=6).tick) == {"p": {named(1)}}


def test_who_waits_no_more_costs_nothing() -> None:
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
def test_everybody_is_answered_no_later_than_their_time(
    asked: list[tuple[list[int], str, float, float]],
) -> None:
    """Whoever comes when: once all that is due is read, nobody who is due is left."""
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
