"""The shared poller's decisions, at given times: no clock, no socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from airflow_ee_provider.earth_engine.model.errors import TransientError
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.model.operations import Operation, OperationState
from airflow_ee_provider.earth_engine.protocol.effects import ReadOperations
from airflow_ee_provider.earth_engine.protocol.poll_plan import Get, List, PollPlan

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.protocol.poll_plan import Waiter


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


def test_few_operations_are_read_by_name_when_they_are_due() -> None:
    plan = PollPlan()
    waiting(plan, named(1), after=30)

    assert plan.next_due() == 30
    assert plan.begin(29) == []
    assert plan.begin(30) == [Get(named(1))]
    assert plan.next_due() is None  # It is being read.


def test_an_operation_that_two_wait_for_is_read_once_for_both() -> None:
    plan = PollPlan()
    both = [waiting(plan, named(1), after=5), waiting(plan, named(1), after=5)]

    assert plan.begin(5) == [Get(named(1))]
    assert set(plan.answer({named(1): running(named(1))}, 6)) == set(both)


def test_many_are_read_in_a_list_and_what_it_does_not_show_by_name() -> None:
    plan = PollPlan()
    waiters = [waiting(plan, name) for name in names(range(50))]

    [reading] = plan.begin(0)
    shown = {name: running(name) for name in names(range(49))}

    assert isinstance(reading, List)
    assert reading.names == set(names(range(50)))
    assert len(plan.answer(shown, 1)) == 49
    assert plan.listed(reading, shown, 1) == [Get(named(49))]
    assert plan.answer({named(49): running(named(49))}, 2) == [waiters[49]]


def test_who_is_half_way_to_its_time_is_answered_from_a_list_that_others_need() -> None:
    plan = PollPlan()
    early = waiting(plan, named(100), after=100)
    guest = waiting(plan, named(200), after=40)
    for name in names(range(50)):
        waiting(plan, name, after=30)

    [reading] = plan.begin(30)
    answered = plan.answer({named(100): running(named(100)), named(200): running(named(200))}, 31)

    assert isinstance(reading, List)
    assert reading.guests == (guest,)
    assert answered == [guest]
    assert early in plan.waiters


def test_a_guest_that_the_list_did_not_show_is_due_in_its_own_time() -> None:
    plan = PollPlan()
    waiting(plan, named(200), after=40)
    for name in names(range(50)):
        waiting(plan, name, after=30)

    [reading] = plan.begin(30)
    assert isinstance(reading, List)
    plan.listed(reading, names(range(50)), 1)

    assert plan.next_due() == 40
    assert plan.begin(40) == [Get(named(200))]


def test_an_end_is_told_at_once_whoever_it_was_read_for() -> None:
    plan = PollPlan()
    patient = waiting(plan, named(1), named(2), after=1000)

    assert plan.answer({named(1): running(named(1))}, 1) == []
    assert plan.answer({named(1): ended(named(1))}, 2) == [patient]


def test_an_error_is_an_answer_for_its_operation_alone() -> None:
    plan = PollPlan()
    one, other = waiting(plan, named(1)), waiting(plan, named(2))
    plan.begin(0)

    assert plan.answer({named(1): TransientError("gone")}, 1) == [one]
    assert other in plan.waiters


def test_each_project_is_read_for_itself() -> None:
    plan = PollPlan()
    for name in (*names(range(50), "many"), *names(range(2), "few")):
        waiting(plan, name)

    reads = plan.begin(0)

    assert [read.project for read in reads if isinstance(read, List)] == ["many"]
    assert {read.name for read in reads if isinstance(read, Get)} == set(names(range(2), "few"))


def test_a_list_that_was_long_is_not_read_for_a_few_and_is_tried_again_some_day() -> None:
    plan = PollPlan()

    def read_all(now: float) -> list[Get | List]:
        for waiter in [waiting(plan, name, now=now) for name in names(range(50))]:
            waiter.readable_from = now
        reads = plan.begin(now)
        for read in reads:
            if isinstance(read, Get):
                plan.got(read)
        for waiter in set(plan.waiters):
            plan.remove(waiter)
        return reads

    [reading] = read_all(0)
    assert isinstance(reading, List)
    plan.listed(reading, names(range(50)), 4)  # Four pages for 50: by name is cheaper.

    assert [len(read_all(1)), len(read_all(2)), len(read_all(3))] == [50, 50, 1]


def test_who_asks_at_once_does_not_wait_for_a_get_that_is_under_way() -> None:
    plan = PollPlan()
    waiting(plan, named(1), after=5)
    assert plan.begin(5) == [Get(named(1))]

    waiting(plan, named(1), after=2, now=4)
    assert plan.begin(6) == []  # It is answered from the one that is under way.
    waiting(plan, named(1), now=6)
    assert plan.begin(6) == [Get(named(1))]


def test_who_waits_no_more_costs_nothing() -> None:
    plan = PollPlan()
    plan.remove(waiting(plan, named(1), after=5))

    assert plan.next_due() is None
    assert plan.begin(5) == []
    assert plan.answer({named(1): ended(named(1))}, 6) == []


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
    """Whoever comes when, and whatever is read in lists: once all that is due is read, nobody who is due is left."""
    plan = PollPlan()
    late: list[tuple[Waiter, float]] = []
    for numbers, project, after, now in sorted(asked, key=lambda one: one[3]):
        waiter = waiting(plan, *(named(number, project) for number in numbers), after=after, now=now)
        late.append((waiter, now + after))
    for _ in range(100):
        now = plan.next_due() or 0.0
        reads = plan.begin(now)
        if not reads:
            break
        for read in reads:
            shown = (
                [read.name]
                if isinstance(read, Get)
                else [n for n in (*read.names, *read.also) if str(n)[-1] in "13579"]
            )
            for waiter in plan.answer({name: running(name) for name in shown}, now):
                assert now <= waiter.due
                plan.remove(waiter)
            if isinstance(read, Get):
                plan.got(read)
            else:
                reads += plan.listed(read, shown, 1)
    assert not plan.waiters
