"""The product's own code in a model of Airflow: what must hold, holds whatever strikes; what is broken, is found."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

import hypothesis
import pytest
from cleaners import CLEANERS
from exploring import AT_RANDOM, ONE_OF, SLOW, VERSIONS, explore, plans, shortest, singles, steps_of
from history import History, Plan, Run
from holders import HOLDERS
from mutants import MUTANTS, Mutant, find
from strikes import STRIKES

if TYPE_CHECKING:
    from airflow_model import Airflow

#: Of the strikes at a step, one of so many is tried here; all of them, and pairs, by `make explore`.
A_FEW, FEWER = 18, 36

#: Random histories, besides.
EXAMPLES = 400


def fail_with(failing: list[History]) -> None:
    """Say what went wrong, so that a person can read it, and how to see it again."""
    for history in failing:
        pytest.fail("\n".join(["", *history.timeline, "", *history.violations, f"In tests/model: {history.plan}"]))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_whatever_strikes_at_whichever_step(holder: str, version: str) -> None:
    found = explore(singles([holder], [version], every=A_FEW * ONE_OF if holder == SLOW else A_FEW))

    assert found.histories > 20
    fail_with([shortest(history) for history in found.failing[:1]])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cleaner", [name for name in CLEANERS if name])
def test_whatever_strikes_and_somebody_cleans_up(cleaner: str, version: str) -> None:
    found = explore(singles(("function, deferred", "sensor, reschedule"), [version], cleaner, every=FEWER))

    assert found.histories > 20
    fail_with([shortest(history) for history in found.failing[:1]])


@hypothesis.settings(AT_RANDOM, max_examples=EXAMPLES, derandomize=True)
@hypothesis.given(plans())
def test_whatever_strikes_twice_and_more(plan: Plan) -> None:
    history = Run(plan).carry_out()

    fail_with([history] if history.violations else [])


@pytest.mark.skipif("3.3" not in VERSIONS, reason="found on 3.3")
def test_what_was_found_at_random_once() -> None:
    """A kill while a try reads what the last one has left, of a worker that Airflow has lost sight of."""
    strikes = ((7, "earth_engine_away"), (28, "triggerer_sigterm"), (32, "worker_lost_sight_of"))

    assert Run(Plan("two exports, worker", "3.3", strikes)).carry_out().violations == []


@pytest.mark.skipif("3.3" not in VERSIONS, reason="before it, nothing remembers what the last try has left")
def test_a_kill_amid_the_question_what_the_last_try_has_left() -> None:
    away_for_long = ((11, "earth_engine_away"), (21, "earth_engine_away"))

    history = Run(Plan("function, deferred", "3.3", (*away_for_long, (38, "run_deleted")))).carry_out()

    fail_with([history] if history.violations else [])


@pytest.mark.skipif("2.11" not in VERSIONS, reason="found on 2.11")
@pytest.mark.parametrize("holder", ["export, deferred", "function, deferred"])
def test_a_second_sigterm_does_not_end_what_the_first_one_cancels(holder: str) -> None:
    """Airflow 2's handler raises, amid whatever goes on."""
    steps = range(10, 30)

    histories = [
        Run(Plan(holder, "2.11", ((step, "task_marked_failed"), (step + later, "worker_sigterm")))).carry_out()
        for step in steps
        for later in (1, 2, 3)
    ]

    fail_with([history for history in histories if history.violations])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("holder", ["export, worker", "function, deferred", "sensor, poking"])
def test_a_task_that_is_ended_while_it_waits_for_airflows_answer_is_still_wanted(holder: str, version: str) -> None:
    """Its database is away, so a record takes its time, and the heartbeats do not come through."""
    steps = range(min(45, steps_of(holder, version)))

    found = explore(
        Plan(holder, version, ((step, "airflow_slow"), (step + later, "worker_sigterm")))
        for step in steps
        for later in (1, 2)
    )

    fail_with([shortest(history) for history in found.failing[:1]])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("holder", ["export, deferred", "function, deferred"])
def test_a_process_whose_trigger_may_have_begun_does_not_stay_for_an_answer(holder: str, version: str) -> None:
    """Its trigger resumes the task after ten seconds, and Airflow takes for lost what has not ended by then."""
    steps = range(12, steps_of(holder, version))

    found = explore(
        Plan(holder, version, ((step, "airflow_slow"), (step + later, "operations_end")))
        for step in steps
        for later in (3, 12)
    )

    fail_with([shortest(history) for history in found.failing[:1]])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("holder", ["export, worker", "function, deferred", "sensor, poking"])
def test_what_a_user_ends_while_earth_engine_is_away_is_cancelled_all_the_same(holder: str, version: str) -> None:
    steps = range(0, min(45, steps_of(holder, version)), 2)

    found = explore(
        Plan(holder, version, ((step, "earth_engine_away"), (step + 6, what)))
        for step in steps
        for what in ("run_marked_failed", "task_cleared", "task_marked_failed_at_once")
    )

    fail_with([shortest(history) for history in found.failing[:1]])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("holder", ["export, deferred", "sensor, deferred"])
def test_what_a_run_that_has_ended_holds_is_cancelled_although_its_task_still_counts_as_running(
    holder: str, version: str
) -> None:
    def end_run_alone(airflow: Airflow) -> None:
        airflow.want_no_more()
        airflow.run_state = "failed"

    timeline = Run(Plan(holder, version)).carry_out().timeline
    deferral = next(number for number, line in enumerate(timeline) if "asks to be deferred" in line)
    step = [int(line.split()[1]) for line in timeline[:deferral] if "run's state?" in line][-1]
    with mock.patch.dict(STRIKES, {"run_ends_alone": end_run_alone}):
        run = Run(Plan(holder, version, ((step, "run_ends_alone"),)))
        run.carry_out()

    states = {run.world.service.state(name) for name in run.world.service.operations if name not in run.bystanders}
    assert states == {"CANCELLED"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("holder", ["export, deferred", "function, deferred", "sensor, deferred", "sensor, reschedule"])
def test_a_worker_that_stood_still_cancels_nothing_of_its_next_trys(holder: str, version: str) -> None:
    found = explore(Plan(holder, version, ((step, "worker_stood_still"),)) for step in range(steps_of(holder, version)))

    fail_with([shortest(history) for history in found.failing[:1]])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("holder", ["export, deferred", "function, deferred", "sensor, deferred"])
def test_what_an_evicted_worker_has_left_is_cancelled_where_a_user_acts_before_its_end(
    holder: str, version: str
) -> None:
    steps = range(min(45, steps_of(holder, version)))

    found = explore(
        Plan(holder, version, ((step, "worker_sigterm"), (step + later, what)))
        for step in steps
        for later in (18, 21)
        for what in ("run_marked_failed", "task_cleared_at_once")
    )

    fail_with([shortest(history) for history in found.failing[:1]])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("later", [0, 1])
def test_an_export_that_is_being_started_as_its_worker_goes_is_the_next_trys(later: int, version: str) -> None:
    undisturbed = Run(Plan("export, worker", version)).carry_out()
    [line] = [line for line in undisturbed.timeline if "POST projects/p/image:export" in line]
    run = Run(Plan("export, worker", version, ((int(line.split()[1]) + later, "worker_sigterm"),)))

    history = run.carry_out()

    operations = [o for o in run.world.service.operations.values() if o.description != "bystander"]
    fail_with([history] if history.violations else [])
    assert [operation.cancel_requested for operation in operations] == [None]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_timeout_amid_a_start_does_not_wait_for_an_answer_that_nobody_hears(version: str) -> None:
    amid_the_second_start = Plan("decorator, deferred", version, ((12, "execution_timeout"),))

    assert Run(amid_the_second_start).carry_out().violations == []


@pytest.mark.nightly
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_is_found(mutant: Mutant) -> None:
    if not set(mutant.versions) & set(VERSIONS):
        pytest.skip("it concerns other versions of Airflow")

    history = find(mutant, VERSIONS)

    assert history is not None, "The model does not see it."


def test_a_history_is_the_same_each_time() -> None:
    plan = Plan("export, deferred", VERSIONS[0], ((20, "task_marked_failed"),))

    first, second = Run(plan).carry_out(), Run(plan).carry_out()

    assert first.timeline == second.timeline
