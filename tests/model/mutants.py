"""Faults that the provider really had, or nearly had; the model must find each of them.

A mutant is a patch of the provider's code. It names the holders, versions and strikes with which it is looked for, so
that the search is short.
"""

from __future__ import annotations

import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from unittest import mock

from exploring import singles
from history import Run

from airflow_ee_provider.collector import memory
from airflow_ee_provider.earth_engine.model.errors import InvalidRequestError
from airflow_ee_provider.earth_engine.protocol import cancelling, starting, waiting
from airflow_ee_provider.earth_engine.protocol.waiting import Progress
from airflow_ee_provider.earth_engine.transport.shared_poller import PollPlan, SharedPoller
from airflow_ee_provider.exports import exporting
from airflow_ee_provider.exports.exporting import ExportingOperator
from airflow_ee_provider.exports.starter import Starter
from airflow_ee_provider.lifecycle import asking_airflow, decision, ending, owning_task
from airflow_ee_provider.lifecycle import cancelling as task_cancelling
from airflow_ee_provider.lifecycle.decision import Event, Outcome, Situation
from airflow_ee_provider.lifecycle.ending import Ending, Phase
from airflow_ee_provider.lifecycle.owning_task import OwningTask
from airflow_ee_provider.notifications import earth_engine as notifications
from airflow_ee_provider.operators import cancel
from airflow_ee_provider.tracking import holders, resuming, store
from airflow_ee_provider.tracking.holders import Holder
from airflow_ee_provider.tracking.run import records_of_run
from airflow_ee_provider.triggers import base as trigger_base
from airflow_ee_provider.triggers import earth_engine as triggers
from airflow_ee_provider.triggers.earth_engine import EarthEngineOperationsTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plans import History, Plan


@dataclass(frozen=True)
class Mutant:
    """A fault.

    :param patches: replacements: an object, an attribute's name, and the new value.
    :param holders: the holders to try, in this order.
    :param versions: the versions of Airflow to try, as far as the running interpreter has them.
    :param strikes: the strikes to try; all of them by default.
    :param cleaner: the cleaner.
    :param before: strikes before each of these, at consecutive steps.
    :param later: how many steps these come after the first of `before`.
    """

    name: str
    patches: tuple[tuple[Any, str, Any], ...]
    holders: tuple[str, ...]
    versions: tuple[str, ...] = ("3.3", "3.1", "2.11")
    strikes: tuple[str, ...] = field(default=())
    cleaner: str = ""
    before: tuple[str, ...] = ()
    later: int = 6


def nothing(*_: Any, **__: Any) -> None:
    return None


async def nothing_async(*_: Any, **__: Any) -> None:
    return None


def never(value: Any) -> property:
    """Return a property that always has a value, and ignores writes."""
    return property(lambda _self: value, nothing)


def instead(event: Event, rule: Any) -> tuple[Any, str, Any]:
    """Return a patch of the decision: another rule for an event, which may call the right rule."""
    right = decision._RULES[event]
    return decision, "_RULES", {**decision._RULES, event: lambda situation: rule(situation, right)}


def _takes_a_deferral_for_an_end(situation: Situation, right: Any) -> Outcome:
    return Outcome.CANCEL if situation.state == "deferred" else right(situation)


def _calls_again(self: Any, context: Any, _event: Any) -> Any:
    """`ExportingOperator.start_more` as it once was: it calls the function again."""
    return self.execute(context)


def always(outcome: Outcome) -> Any:
    return lambda _situation, _right: outcome


def without(**known: Any) -> Any:
    """Return a rule that replaces facts of the situation."""
    return lambda situation, right: right(replace(situation, **known))


@contextmanager
def _cancelled_before_it_is(self: Any) -> Iterator[None]:
    """`Ending._cancelling` that sets the phase CANCELLED before the cancel."""
    self.phase = Phase.CANCELLED
    yield


def _told_at_once(names: Any, **_: Any) -> Any:
    """`cancel_and_confirm` that reports a requested cancel as confirmed."""
    results = yield from cancelling.request_cancels(names)
    return [cancelling.CancelResult(result.name, cancelling.CancelOutcome.CANCELLED) for result in results]


def _kills_when_stopped(self: Any, **_: Any) -> Any:
    return self._cancel_now()


def records_that_cannot_be_read(_context: Any) -> Iterator[Exception]:
    yield LookupError("It cannot be read.")


DEFERRED = ("export, deferred", "sensor, deferred")
ALL = ("export, worker", "sensor, poking", "export, deferred", "sensor, deferred")
USERS = ("task_marked_failed", "task_marked_failed_at_once", "run_marked_failed", "task_cleared_at_once")

MUTANTS = [
    Mutant("a kill cancels nothing", ((OwningTask, "on_kill", nothing),), ALL, strikes=USERS),
    Mutant(
        "a kill forgets what is being started",
        ((Starter, "in_flight", never(())), (Starter, "cancel_late_starts", nothing)),
        ("export, worker",),
        strikes=USERS,
    ),
    Mutant(
        "a killed process has nobody that goes on asking",
        ((task_cancelling, "_is_handed_over", lambda *_: True),),
        ("export, worker", "sensor, poking"),
        strikes=USERS,
        before=("earth_engine_away",),
    ),
    Mutant(
        "a killed process does not hand over what is being started",
        ((ExportingOperator, "own_starts", []),),
        ("export, worker",),
        strikes=USERS,
        before=("answer_lost", "earth_engine_away"),
    ),
    Mutant(
        "a user is not heeded amid what a timeout cancels",
        ((Ending, "_cancelling", _cancelled_before_it_is),),
        ("export, worker",),
        ("3.3", "3.1"),
        ("run_marked_failed",),
        before=("execution_timeout", "earth_engine_away"),
    ),
    Mutant(
        "a kill stops no start",
        ((Starter, "stopped", never(False)),),
        ("function, deferred",),
        versions=("3.3", "3.1"),
        strikes=USERS,
    ),
    Mutant(
        "what is started side by side is not written down before it is sent",
        ((Starter, "_is_not_needed", lambda *_: False),),
        ("two exports, worker",),
        ("2.11",),
        USERS,
    ),
    Mutant(
        "a retry forgets what it does not make again",
        ((exporting, "left_by_the_last_try", lambda _context: []),),
        ("changing, deferred",),
        strikes=("worker_sigkill",),
    ),
    Mutant(
        "the function is called again for each wave",
        (
            (exporting, "kept", lambda *_: None),
            (exporting, "keep", lambda *_: True),
            (ExportingOperator, "start_more", _calls_again),
        ),
        ("waves, deferred",),
        ("3.3", "3.1"),
    ),
    Mutant(
        "a kill that comes early is forgotten",
        ((Ending, "_is_too_early", lambda self: ending.AIRFLOW_3 and not self.task.hook.is_ready),),
        ("sensor, poking",),
        ("3.3", "3.1"),
        USERS,
    ),
    Mutant(
        "a function goes on starting after a kill",
        ((Starter, "stopped", never(False)),),
        ("function, deferred",),
        ("3.3", "3.1"),
        strikes=USERS,
    ),
    Mutant(
        "a kill amid a question to Airflow is not looked at again",
        ((Ending, "_is_signalled_again", lambda _: ending.is_asking_airflow()),),
        ("export, worker", "sensor, poking"),
        ("3.3", "3.1"),
        USERS,
    ),
    Mutant(
        "a kill amid a question to Airflow cancels what the next try wants",
        ((Ending, "_is_signalled_again", lambda _: False), (ending, "has_tries_left", lambda _ti: False)),
        ("export, worker",),
        ("3.3", "3.1"),
        ("worker_sigterm",),
    ),
    Mutant(
        "a worker that stood still does not see that another try has begun",
        (
            (asking_airflow, "operations_of_a_later_try", lambda _ti: set()),
            (asking_airflow, "own_try", lambda *_: None),
            instead(Event.SIGNAL, _takes_a_deferral_for_an_end),
        ),
        ("sensor, deferred", "export, deferred"),
        strikes=("worker_stood_still",),
    ),
    Mutant(
        "a worker that stood still goes on writing the records of the next try",
        (
            (store, "is_of_later_try", lambda *_: False),
            (store, "is_of_earlier_try", lambda *_: False),
            (asking_airflow, "own_try", lambda *_: None),
            instead(Event.SIGNAL, _takes_a_deferral_for_an_end),
        ),
        ("function, deferred", "export, deferred"),
        strikes=("worker_stood_still",),
    ),
    Mutant(
        "what an evicted worker has left is not cancelled where a user acts before its end",
        ((Ending, "end_unless_own", nothing), (Ending, "on_deferral", nothing)),
        ("sensor, deferred", "export, deferred"),
        ("3.3", "3.1"),
        strikes=("run_marked_failed",),
        before=("worker_sigterm",),
        later=20,
    ),
    Mutant(
        "a worker that goes takes with it what the next try wants",
        ((ending, "has_tries_left", lambda _ti: False),),
        ("export, worker", "sensor, poking"),
        strikes=("worker_sigterm",),
    ),
    Mutant(
        "a worker that goes leaves what nobody follows to want",
        ((ending, "has_tries_left", lambda _ti: True), (Ending, "on_end", nothing)),
        ("export, worker", "sensor, poking"),
        strikes=("worker_sigterm",),
    ),
    Mutant(
        "a kill does not ask whether another try goes on",
        (instead(Event.SIGNAL, always(Outcome.CANCEL)),),
        ("sensor, poking",),
        strikes=("worker_lost_sight_of",),
    ),
    Mutant(
        "what another try goes on with is cancelled before a deferral",
        ((decision, "NEXT_TRY_STATES", frozenset()),),
        DEFERRED,
        strikes=("worker_lost_sight_of",),
    ),
    Mutant(
        "the time of a task is not minded",
        ((Ending, "on_timeout", nothing),),
        ALL,
        versions=("3.3",),
        strikes=("execution_timeout", "trigger_timeout"),
    ),
    Mutant(
        "a timeout's words are others",
        (
            (owning_task, "trigger_timed_out", lambda *_: False),
            (exporting, "trigger_timed_out", lambda *_: False),
            (Ending, "on_end", nothing),
        ),
        ("sensor, deferred",),
        versions=("3.3",),
        strikes=("trigger_timeout",),
    ),
    Mutant(
        "a trigger does not hear of a kill",
        ((EarthEngineOperationsTrigger, "cancel_if_unneeded", nothing_async),),
        DEFERRED,
        strikes=USERS,
    ),
    Mutant(
        "a trigger does not ask why it is cancelled",
        ((EarthEngineOperationsTrigger, "_decide_and_cancel", nothing_async),),
        DEFERRED,
        ("3.1", "2.11"),
        USERS,
    ),
    Mutant(
        "a trigger takes every stop for a user's action",
        (instead(Event.TRIGGER, always(Outcome.CANCEL)),),
        DEFERRED,
        ("3.1", "2.11"),
        ("triggerer_sigterm",),
    ),
    Mutant(
        "a trigger that another triggerer has taken over believes that a user has acted",
        (instead(Event.TRIGGER, always(Outcome.CANCEL)),),
        DEFERRED,
        ("3.3",),
        ("trigger_taken_over",),
    ),
    Mutant(
        "a trigger cancels when its triggerer stops",
        (
            (triggers, "calls_triggers_on_kill", lambda: False),
            (EarthEngineOperationsTrigger, "_decide_and_cancel", _kills_when_stopped),
        ),
        DEFERRED,
        strikes=("triggerer_sigterm",),
    ),
    Mutant(
        "a refused deferral is ignored",
        ((Ending, "on_deferral", nothing),),
        DEFERRED,
        ("3.3",),
        USERS,
    ),
    Mutant(
        "a task does not ask for its state before it defers",
        ((Ending, "end_unless_own", nothing),),
        DEFERRED,
        ("3.1",),
        USERS,
    ),
    Mutant(
        "a task whose record is refused does not ask who has ended it",
        ((Ending, "check", nothing), (Ending, "on_end", nothing)),
        ("export, worker", "sensor, deferred"),
        ("3.3",),
        ("task_cleared",),
    ),
    Mutant(
        "what fails for good by a retry policy is left to a try that never comes",
        (instead(Event.END, always(Outcome.LEAVE)),),
        ALL,
        ("3.3",),
        ("retry_policy",),
    ),
    Mutant(
        "what fails is cancelled although a try follows",
        (instead(Event.END, always(Outcome.CANCEL)),),
        ("export, worker", "sensor, poking"),
        strikes=("exception",),
    ),
    Mutant(
        "a process that ends does not see that a user has ended its task",
        (instead(Event.END, without(state="running")), (Ending, "check", nothing)),
        ("export, worker", "sensor, poking"),
        ("3.3", "2.11"),
        USERS,
        before=("exception",),
        later=1,
    ),
    Mutant(
        "a process that has been told to end, and lives on, cancels nothing any more",
        ((Ending, "on_end", nothing), (Ending, "check", nothing)),
        ("sensor, poking", "export, worker"),
        ("3.3",),
        ("retry_policy",),
        before=("process_sigterm",),
    ),
    Mutant(
        "a trigger resumes its task at once", ((trigger_base, "SETTLE", 0.0),), DEFERRED, strikes=("operations_end",)
    ),
    Mutant("a name is written down after the wait", ((exporting, "record_started", nothing),), ("export, worker",)),
    Mutant(
        "a record is read without a task's id",
        (
            (
                store,
                "read_own",
                lambda context, key: context["ti"].xcom_pull(task_ids=None, map_indexes=None, key=key),
            ),
        ),
        ("export, worker",),
    ),
    Mutant(
        "each request has another id",
        ((starting.Start, "request_id", lambda _self, _number: str(uuid.uuid4())),),
        ("export, worker",),
        strikes=("worker_sigkill", "answer_lost"),
    ),
    Mutant(
        "a try that could not read the last one's record notes that nothing is left",
        ((OwningTask, "knows_all", lambda _: True),),
        ("export, worker",),
        strikes=("connection_away",),
        cleaner="collector",
        before=("exception",),
    ),
    Mutant(
        "what was cancelled is gone on with",
        ((resuming, "_can_continue", lambda *_: True),),
        ("export, worker",),
        ("3.3",),
        ("execution_timeout",),
    ),
    Mutant(
        "a fault that passes ends the waiting",
        ((waiting, "TransientError", InvalidRequestError),),
        ("sensor, poking",),
        strikes=("earth_engine_away",),
    ),
    Mutant(
        "an operation is believed to have ended", ((Progress, "is_over", lambda *_, **__: True),), ("sensor, poking",)
    ),
    Mutant("a cancel is believed", ((cancelling, "cancel_and_confirm", _told_at_once),), ("cancel, worker",)),
    Mutant("the poller answers nobody", ((SharedPoller, "_answer", nothing_async),), DEFERRED),
    Mutant("the poller forgets who waits", ((PollPlan, "begin", lambda *_: {}),), DEFERRED),
    Mutant(
        "a teardown takes the whole run's",
        ((cancel, "records_of_upstream", lambda context, _operator: records_of_run(context)),),
        ("export, worker",),
        cleaner="teardown",
    ),
    Mutant(
        "a teardown cancels nothing",
        ((cancel.EarthEngineCancelOperationsOperator, "cancel", nothing),),
        ("sensor, reschedule",),
        strikes=("triggerer_sigkill", *USERS),
        cleaner="teardown",
    ),
    Mutant(
        "a task's notifier takes its siblings'",
        ((notifications, "records_of_task", records_of_run),),
        ("export, worker",),
        strikes=USERS,
        cleaner="task's notifier",
    ),
    Mutant(
        "a notifier cannot read what the run holds",
        ((notifications, "records_of_run", records_that_cannot_be_read),),
        ("sensor, reschedule",),
        strikes=USERS,
        cleaner="DAG's notifier",
    ),
    Mutant(
        "the collector takes what a finished run has handed off for needed",
        ((memory, "ACTIVE_RUN_STATES", {"queued", "running", "success"}),),
        ("sensor, reschedule",),
        strikes=("task_marked_success",),
        cleaner="collector",
    ),
    Mutant(
        "the janitor takes what is wanted for an orphan",
        ((Holder, "needs", never(False)),),
        ("export, worker",),
        strikes=("operations_end",),
        cleaner="janitor",
    ),
    Mutant(
        "the janitor takes what a run goes on with for an orphan, once its task is deferred",
        ((holders, "ACTIVE_STATES", {"running"}),),
        ("sensor, deferred",),
        strikes=("operations_end",),
        cleaner="janitor",
    ),
    Mutant(
        "the janitor finds no orphans",
        ((holders, "is_unneeded", lambda _: False),),
        ("sensor, reschedule",),
        strikes=USERS,
        cleaner="janitor",
    ),
]


def histories(mutant: Mutant, versions: tuple[str, ...]) -> Iterator[Plan]:
    """Yield the plans with which a mutant is looked for."""
    for version in [version for version in mutant.versions if version in versions]:
        for plan in singles(mutant.holders, [version], mutant.cleaner):
            if mutant.before and plan.strikes:
                [(step, what)] = plan.strikes
                before = enumerate(mutant.before, step)
                plan = replace(plan, strikes=(*before, (step + mutant.later, what)))  # noqa: PLW2901
            if not plan.strikes or not mutant.strikes or plan.strikes[-1][1] in mutant.strikes:
                yield plan


def find(mutant: Mutant, versions: tuple[str, ...]) -> History | None:
    """Return the first history that finds a mutant."""
    with ExitStack() as stack:
        for target, name, value in mutant.patches:
            stack.enter_context(mock.patch.object(target, name, value, create=True))
        for plan in histories(mutant, versions):
            history = Run(plan).carry_out()
            if history.violations:
                return history
    return None
