"""Triggers that wait for operations in the triggerer."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import TriggerEvent

from airflow_ee_provider.base.airflow_versions import calls_triggers_on_kill
from airflow_ee_provider.base.errors import log_errors
from airflow_ee_provider.base.parameters import LONGEST
from airflow_ee_provider.base.process import is_an_inline_trigger
from airflow_ee_provider.base.task_states import own_state, own_try
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
from airflow_ee_provider.earth_engine.model.log_text import abbreviated
from airflow_ee_provider.earth_engine.protocol.cancelling import ended_by_cancel
from airflow_ee_provider.earth_engine.protocol.waiting import WaitOptions, wait_for_operations, wait_for_room
from airflow_ee_provider.lifecycle.cancelling import CONFIRM_LIMITS, report_cancels
from airflow_ee_provider.lifecycle.decision import RESUMED_STATES, Decision, Event, Outcome, Situation, decide
from airflow_ee_provider.lifecycle.signals import cancel_for_author_of
from airflow_ee_provider.tracking.notes import note_resumed, note_settled, was_resumed
from airflow_ee_provider.tracking.record import TRY_KEY
from airflow_ee_provider.triggers.base import Trigger, finish, sleep_until, unwatch, watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from airflow_ee_provider.earth_engine.auth.credentials import Account
    from airflow_ee_provider.earth_engine.model.operations import Operation
    from airflow_ee_provider.earth_engine.protocol.effects import Flow

T = TypeVar("T")

#: How long `on_kill` waits for the cancels, in seconds. Airflow's own limit is ``[triggerer] on_kill_timeout``, 30 s.
ON_KILL_TIMEOUT = 28.0
#: Seconds before each request for the task's state. Airflow may not answer the first one after a restart.
ASKED_AGAIN_AFTER = (0.0, 2.0, 6.0, 12.0)
#: Seconds before each attempt to cancel, if Earth Engine did not answer the one before; half an hour in all.
CANCELLED_AGAIN_AFTER = (0.0, 15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 900.0)

#: The states of operations that have ended, as an event contains them.
ENDED_STATES = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})

#: Thousands of triggers can have the same options, and share one object.
_shared_options = lru_cache(maxsize=100)(WaitOptions)


class EarthEngineOperationsTrigger(Trigger):
    """
    Wait until operations have ended, or one has failed.

    A restart of the triggerer never cancels them. A user's action on the task cancels them if ``cancel_on_kill`` is
    set. After a time-out of the trigger, the task resumes and decides.

    :param operation_names: Full names, ``projects/PROJECT/operations/ID``.
    :param poll_interval: Maximum time between two polls, in seconds.
    :param cancel_on_kill: Cancel when a user clears or marks the deferred task, or when its DAG run times out.
    :param max_eecu_seconds: EECU-seconds that each operation may use before it is cancelled. None for no limit.
    :param max_total_eecu_seconds: EECU-seconds that all operations may use together before those that run are
        cancelled. None for no limit.
    :param max_failures: How many operations may fail: a whole number, or a share below 1.
    :param stop_at_failure: Return as soon as more than ``max_failures`` have failed. If False, wait for the others
        first.
    :param timeout_at: The time at which the trigger times out, in seconds since the epoch, if the time-out must not
        cancel. Before Airflow 3.3, the trigger cannot distinguish a time-out from a user's action without it.
    """

    most_results = 5

    def __init__(
        self,
        *,
        cancel_on_kill: bool = False,
        max_eecu_seconds: float | None = None,
        max_total_eecu_seconds: float | None = None,
        max_failures: float = 0,
        stop_at_failure: bool = True,
        timeout_at: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cancel_on_kill = cancel_on_kill
        self.options = _shared_options(
            self.poll_interval, stop_at_failure, max_eecu_seconds, max_total_eecu_seconds, max_failures
        )
        self.timeout_at = timeout_at
        self._has_answered = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the parameters with which Airflow makes the trigger again after a restart."""
        path, kwargs = super().serialize()
        own = {name: getattr(self, name) for name in ("cancel_on_kill", "timeout_at")}
        return path, {**kwargs, **self.options.as_kwargs(), **own}

    async def wait(self) -> list[Any]:
        """Wait until all operations have ended or one has failed."""
        use = self.hook.client()  # A kill uses the same client.
        try:
            try:
                watch(self)
                client = await use.enter()
                self.hook.account = client.account
                found = await client.run(self._flow(client.account), self.log)
            except EarthEngineError:
                await sleep_until(self.settled)  # Inside this `try`, so that a kill is handled.
                raise
            await sleep_until(self.settled)
        except asyncio.CancelledError as why:
            unwatch(self)
            if is_an_inline_trigger():
                await cancel_for_author_of(self)
            # From 3.3 on, Airflow gives a reason if a user has acted, and none if the triggerer stops.
            is_user_action = bool(why.args)
            if self.task_instance is not None and (is_user_action or not calls_triggers_on_kill()):
                await self.cancel_if_unneeded(is_user_action=is_user_action)
            raise
        finally:
            unwatch(self)
            await use.leave()
        return [operation.as_dict() for operation in found]

    def _flow(self, account: Account) -> Flow[list[Operation]]:
        """Return the flow of the wait. A hook's method would cost one more coroutine for each trigger."""
        return wait_for_operations(account.names(self.operation_names), self.options)

    async def before_resuming(self, payload: dict[str, Any]) -> None:
        """If operations still run, record that the task itself needs them from now on."""
        from airflow_ee_provider.earth_engine.transport.drivers import in_background

        if self.cancel_on_kill and self.task_instance is not None and not _have_all_ended(payload):
            with suppress(Exception):  # If this fails, only a late triggerer can do harm.
                await asyncio.shield(in_background(_in_thread(note_resumed, self.task_instance, self.trigger_id)))

    async def on_kill(self) -> None:
        """Cancel, because a user acted on the task. Airflow 3.3 calls this, and waits for 30 s at most.

        Airflow also calls it if another triggerer has taken over the trigger because this one's heartbeats were late.
        In that case the task still waits, and nothing is cancelled. Airflow does not call it if it mistakes the kill
        for a time-out, by this machine's clock. So `wait`, which Airflow cancels first, does the same.
        """
        await self.cancel_if_unneeded(is_user_action=True)

    async def cancel_if_unneeded(self, *, is_user_action: bool) -> None:
        """Cancel, once, if the task no longer waits, unless its trigger has timed out.

        If the task still waits, the triggerer is only stopping, or another one has taken over the trigger.

        :param is_user_action: Whether Airflow has reported a user's action.
        """
        if self.cancel_on_kill and not self._has_answered:
            self._has_answered = True
            # A triggerer can have a thousand triggers, and each of them first sends a request to Airflow.
            if not await finish(self._decide_and_cancel(is_user_action=is_user_action), ON_KILL_TIMEOUT):
                self.log.warning("Not all cancels are sent and confirmed yet. The triggerer continues with them.")

    async def _decide_and_cancel(self, *, is_user_action: bool) -> None:
        decision = await self.decide(is_user_action=is_user_action)
        if decision.outcome is Outcome.CANCEL:
            self.log.warning("The deferred task was killed; cancelling %s.", abbreviated(self.operation_names))
            await self._cancel_now()
        else:
            self.log.info("No user has ended the task; not cancelling %s.", abbreviated(self.operation_names))
            self._has_answered = False

    async def decide(self, *, is_user_action: bool) -> Decision:
        """Ask Airflow for the task's state until it answers, and decide."""
        pauses = ASKED_AGAIN_AFTER if is_user_action else ASKED_AGAIN_AFTER[:1]
        known = Situation(Event.TRIGGER, is_user_action=is_user_action, cancel_on=frozenset({"kill"}))
        for pause in pauses if self.task_instance is not None else ():
            await asyncio.sleep(pause)
            try:
                return decide(await self._with_answers(known))
            except Exception as error:  # noqa: BLE001 (Airflow may raise any exception)
                self.log.warning("Could not read the task's state from Airflow: %s", error)
        return decide(known)

    async def _with_answers(self, known: Situation) -> Situation:
        """Ask for the task's state and try. After a clear, the next try can be deferred before this trigger ends."""
        # The time alone does not decide, since the worker that computed timeout_at may have another clock.
        has_timed_out = self.timeout_at is not None and time.time() >= self.timeout_at
        known = replace(known, state=await _in_thread(own_state, self.task_instance), has_timed_out=has_timed_out)
        if known.state in RESUMED_STATES:
            # If another triggerer has taken over this trigger and resumed the task, the task needs its operations.
            known = replace(known, was_resumed=await _in_thread(was_resumed, self.task_instance, self.trigger_id))
        if decide(known).outcome is Outcome.CANCEL:
            return known
        mine = getattr(self.task_instance, "try_number", None)
        latest = await _in_thread(own_try, self.task_instance, TRY_KEY)
        # A worker that was frozen can record an earlier try's number late, so only a larger number counts.
        is_later_try = latest is not None and (mine is None or latest > mine)
        return replace(known, is_later_try=is_later_try)

    async def _cancel_now(self) -> None:
        """Cancel, and try again if Earth Engine does not answer."""
        names, dag_id = self.operation_names, getattr(self.task_instance, "dag_id", None)
        for pause in CANCELLED_AGAIN_AFTER:
            if pause:
                self.log.warning("Could not cancel %s; trying again in %g s.", abbreviated(names), pause)
            await asyncio.sleep(pause)
            with log_errors(self.log):
                results = await self.hook.cancel_operations(names, **CONFIRM_LIMITS)
                results = ended_by_cancel(results) if pause else results
                report_cancels(results, self.log, cause="kill", dag_id=dag_id)
                names = [str(result.name) for result in results if result.unanswered]
                if all(result.outcome.is_fine(not_found_ok=True) for result in results):
                    with suppress(Exception):  # If this fails, the collector only sends a needless request.
                        await _in_thread(note_settled, self.task_instance)
            if not names:
                return
        self.log.error("Could not cancel %s. They may still run: cancel them on the page.", abbreviated(names))


async def _in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function that asks Airflow, in the thread that may do that."""
    from asgiref.sync import sync_to_async

    return await sync_to_async(function)(*arguments)


def _have_all_ended(payload: dict[str, Any]) -> bool:
    """Whether all operations in an event have ended; an event with an error has no operation."""
    states = payload.get("states") or [operation["state"] for operation in payload.get("result", ())]
    return bool(states) and ENDED_STATES.issuperset(states)


class EarthEngineQueueTrigger(EarthEngineOperationsTrigger):
    """
    Wait until a task can start more operations, because enough of its operations have ended.

    :param unfinished: Resume the task when at most so many of its operations still run.
    :param room_timeout: Resume the task after so many seconds in any case, since other users' operations may have
        ended. None if only the task's own operations can make room.
    :param since: The time at which the project's queue became full, in seconds since the epoch. The event contains it.
    :param kwargs: The parameters of `EarthEngineOperationsTrigger`.
    """

    def __init__(self, *, unfinished: int, room_timeout: float | None, since: float | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unfinished, self.room_timeout, self.since = unfinished, room_timeout, since

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the parameters with which Airflow makes the trigger again after a restart."""
        path, kwargs = super().serialize()
        own = {name: getattr(self, name) for name in ("unfinished", "room_timeout", "since")}
        return path, {**kwargs, **own}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield the event with ``since``."""
        async for event in super().run():
            yield TriggerEvent({**event.payload, "since": self.since})

    def _flow(self, account: Account) -> Flow[list[Operation]]:
        names = account.names(self.operation_names)
        return wait_for_room(names, self.options, unfinished=self.unfinished, timeout=self.room_timeout)


class EarthEngineCancelOperationsTrigger(Trigger):
    """
    Wait until Earth Engine has confirmed cancels that were requested before.

    :param operation_names: Full names of the operations that are still cancelling.
    :param outcomes: The outcomes of all operations so far. The event contains them with the new outcomes.
    :param poll_interval: Time between two polls, in seconds.
    :param others: Operations of other accounts, each with the account's parameters and ``operation_names``.
    """

    def __init__(
        self, *, outcomes: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.outcomes, self.others = list(outcomes), list(others)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the parameters with which Airflow makes the trigger again after a restart."""
        path, kwargs = super().serialize()
        return path, {**kwargs, "outcomes": self.outcomes, **({"others": self.others} if self.others else {})}

    async def wait(self) -> list[Any]:
        """Wait for the confirmation of all cancels. The limit is the task's own timeout."""
        from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook

        groups = [(self.hook, self.operation_names)]
        for other in self.others:
            account = {name: value for name, value in other.items() if name != "operation_names"}
            groups.append((EarthEngineAsyncHook(**account), other["operation_names"]))
        how: dict[str, Any] = {"poll_interval": self.poll_interval, "timeout": LONGEST}
        results = await asyncio.gather(*(hook.confirm_cancels(names, **how) for hook, names in groups if names))
        confirmed = {str(result.name): result.as_dict() for group in results for result in group}
        return [{**outcome, **confirmed.get(outcome["name"], {})} for outcome in self.outcomes]
