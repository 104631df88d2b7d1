"""The provider's own code in a model of Airflow: its invariants hold after each strike, and known faults are found."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

import hypothesis
import pytest
from cleaners import CLEANERS
from exploring import AT_RANDOM, ONE_OF, SLOW, VERSIONS, explore, plans, shortest, singles, steps_of
from history import Run
from holders import HOLDERS
from mutants import MUTANTS, Mutant, find
from plans import History, Plan
from strikes import STRIKES

if TYPE_CHECKING:
    from airflow_model import Airflow

#: One in this many strikes at a step is tried here; `make explore` tries all of them, and pairs.
A_FEW, FEWER = 18, 36

#: How many random histories are tried.
EXAMPLES = 400


def fail_with(failing: list[History]) -> None:
    """Fail with the timeline and the violations of a history, and the line that replays it."""
    for history in failing:
        pytest.fail("\n".join(["", *history.timeline, "", *history.violations, f"In tests/model: {history.plan}"]))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_the_invariants_hold_after_a_strike_at_any_step(holder: str, version: str) -> None:
    found = explore(singles([holder], [version], every=A_FEW * ONE_OF if holder == SLOW else A_FEW))

    assert found.histories > 20
    fail_with([shortest(history) for history in found.failing[:1]])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cleaner", [name for name in CLEANERS if name])
def test_the_invariants_hold_after_a_strike_with_each_cleaner(cleaner: str, version: str) -> None:
    found = explore(singles(("function, deferred", "sensor, reschedule"), [version], cleaner, every=FEWER))

    assert found.histories > 20
    fail_with([shortest(history) for history in found.failing[:1]])


@hypothesis.settings(AT_RANDOM, max_examples=EXAMPLES, derandomize=True)
@hypothesis.given(plans())
def test_the_invariants_hold_after_random_strikes(plan: Plan) -> None:
    history = Run(plan).carry_out()

    fail_with([history] if history.violations else [])


@pytest.mark.skipif("3.3" not in VERSIONS, reason="found on 3.3")
def test_the_invariants_hold_in_a_random_history_that_once_failed() -> None:
    """A try whose heartbeats were lost is killed while it reads what the last try left."""
    strikes = ((7, "earth_engine_away"), (28, "triggerer_sigterm"), (32, "worker_lost_sight_of"))

    assert Run(Plan("two exports, worker", "3.3", strikes)).carry_out().violations == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_collector_cancels_what_tries_without_a_connection_have_left(version: str) -> None:
    steps = range(15, steps_of("export, worker", version), 6)

    found = explore(
        Plan("export, worker", version, ((step, "exception"), (step + 1, "connection_away")), "collector")
        for step in steps
    )

    assert found.histories > 5
    fail_with([shortest(history) for history in found.failing[:1]])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_task_does_not_wait_for_the_answer_to_a_start_that_an_error_has_interrupted(version: str) -> None:
    """A function may interrupt itself, for example with an alarm."""
    found = explore(Plan("decorator, deferred", version, ((step, "exception"),), retries=False) for step in range(18))

    assert found.histories == 18
    fail_with(found.failing[:1])


@pytest.mark.skipif("3.3" not in VERSIONS, reason="before it, nothing remembers what the last try has left")
def test_a_kill_while_the_task_reads_what_the_last_try_left() -> None:
    away_for_long = ((11, "earth_engine_away"), (21, "earth_engine_away"))

    history = Run(Plan("function, deferred", "3.3", (*away_for_long, (38, "run_deleted")))).carry_out()

    fail_with([history] if history.violations else [])


@pytest.mark.skipif("2.11" not in VERSIONS, reason="found on 2.11")
@pytest.mark.parametrize("holder", ["export, deferred", "function, deferred"])
def test_a_second_sigterm_does_not_stop_the_cancel_of_the_first_one(holder: str) -> None:
    """Airflow 2's handler of SIGTERM raises an exception in the code that it has interrupted."""
    steps = range(10, 30)

    histories = [
        Run(Plan(holder, "2.11", ((step, "task_marked_failed"), (step + later, "worker_sigterm")))).carry_out()
        for step in steps
        for later in (1, 2, 3)
    ]

    fail_with([history for history in histories if history.violations])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("holder", ["export, worker", "function, deferred", "sensor, poking"])
def test_the_next_try_keeps_the_operations_of_a_task_that_ends_while_airflow_is_slow(holder: str, version: str) -> None:
    """Airflow's database is down: a record takes long to write, and heartbeats fail."""
    steps = range(min(45, steps_of(holder, version)))

    found = explore(
        Plan(holder, version, ((step, "airflow_slow"), (step + later, "worker_sigterm")))
        for step in steps
        for later in (1, 2)
    )

    fail_with([shortest(history) for history in found.failing[:1]])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("holder", ["export, deferred", "function, deferred"])
def test_a_process_whose_trigger_may_have_begun_does_not_wait_for_airflow(holder: str, version: str) -> None:
    """The trigger resumes the task after ten seconds; Airflow considers the task lost if its process still runs."""
    steps = range(12, steps_of(holder, version))

    found = explore(
        Plan(holder, version, ((step, "airflow_slow"), (step + later, "operations_end")))
        for step in steps
        for later in (3, 12)
    )

    fail_with([shortest(history) for history in found.failing[:1]])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("holder", ["export, worker", "function, deferred", "sensor, poking"])
def test_operations_are_cancelled_if_a_user_ends_the_task_while_earth_engine_is_away(holder: str, version: str) -> None:
    steps = range(0, min(45, steps_of(holder, version)), 2)

    found = explore(
        Plan(holder, version, ((step, "earth_engine_away"), (step + 6, what)))
        for step in steps
        for what in ("run_marked_failed", "task_cleared", "task_marked_failed_at_once")
    )

    fail_with([shortest(history) for history in found.failing[:1]])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("holder", ["export, deferred", "sensor, deferred"])
def test_operations_of_an_ended_run_are_cancelled_although_their_task_is_running(holder: str, version: str) -> None:
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
def test_a_suspended_worker_cancels_no_operation_of_its_next_try(holder: str, version: str) -> None:
    found = explore(Plan(holder, version, ((step, "worker_stood_still"),)) for step in range(steps_of(holder, version)))

    fail_with([shortest(history) for history in found.failing[:1]])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("holder", ["export, deferred", "function, deferred", "sensor, deferred"])
def test_an_evicted_workers_operations_are_cancelled_if_a_user_acts_before_it_ends(holder: str, version: str) -> None:
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
def test_the_next_try_keeps_an_export_that_was_being_started_when_the_worker_ended(later: int, version: str) -> None:
    undisturbed = Run(Plan("export, worker", version)).carry_out()
    [line] = [line for line in undisturbed.timeline if "POST projects/p/image:export" in line]
    run = Run(Plan("export, worker", version, ((int(line.split()[1]) + later, "worker_sigterm"),)))

    history = run.carry_out()

    operations = [o for o in run.world.service.operations.values() if o.description != "bystander"]
    fail_with([history] if history.violations else [])
    assert [operation.cancel_requested for operation in operations] == [None]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_timeout_during_a_start_does_not_wait_for_a_response_that_no_code_receives(version: str) -> None:
    amid_the_second_start = Plan("decorator, deferred", version, ((12, "execution_timeout"),))

    assert Run(amid_the_second_start).carry_out().violations == []


@pytest.mark.nightly
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_model_finds_a_known_fault(mutant: Mutant) -> None:
    if not set(mutant.versions) & set(VERSIONS):
        pytest.skip("it concerns other versions of Airflow")

    history = find(mutant, VERSIONS)

    assert history is not None, "The model does not see it."


def test_a_history_is_the_same_each_time() -> None:
    plan = Plan("export, deferred", VERSIONS[0], ((20, "task_marked_failed"),))

    first, second = Run(plan).carry_out(), Run(plan).carry_out()

    assert first.timeline == second.timeline
