"""Triggers: waiting on operations in the triggerer."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_ee_provider.base.airflow_versions import tells_triggers_of_kills
from airflow_ee_provider.base.errors import log_errors
from airflow_ee_provider.base.parameters import LONGEST
from airflow_ee_provider.base.process import is_an_inline_trigger
from airflow_ee_provider.base.task_states import own_state, own_try
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
from airflow_ee_provider.earth_engine.model.log_text import abbreviated
from airflow_ee_provider.earth_engine.protocol.cancelling import ended_by_cancel
from airflow_ee_provider.earth_engine.protocol.waiting import WaitOptions, wait_for_operations, wait_for_room
from airflow_ee_provider.lifecycle.cancelling import CONFIRM_LIMITS, report_cancels
from airflow_ee_provider.lifecycle.decision import Decision, Event, Outcome, Situation, decide
from airflow_ee_provider.lifecycle.handover import SETTLE, take_over
from airflow_ee_provider.lifecycle.signals import cancel_for_author_of
from airflow_ee_provider.tracking.record import TRY_KEY
from airflow_ee_provider.tracking.settled import note_settled
from airflow_ee_provider.triggers.base import Trigger, finish, sleep_until
from airflow_ee_provider.triggers.state_watch import unwatch, watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from airflow_ee_provider.earth_engine.auth.credentials import Account
    from airflow_ee_provider.earth_engine.model.operations import Operation
    from airflow_ee_provider.earth_engine.protocol.effects import Flow

#: Seconds for which a kill is waited for at most; Airflow's own limit is ``[triggerer] on_kill_timeout``, 30 s.
ON_KILL_TIMEOUT = 28.0
#: Seconds to the first question for its task's state, and after one that was not answered: Airflow may just come back.
ASKED_AGAIN_AFTER = (0.0, 2.0, 6.0, 12.0)
#: Seconds to the first attempt to cancel, and after each that Earth Engine did not answer; half an hour in all.
CANCELLED_AGAIN_AFTER = (0.0, 15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 900.0)


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
    :param handover: A token that the trigger records when it starts; the task's process waits for that.
    """

    def __init__(
        self,
        *,
        cancel_on_kill: bool = False,
        max_eecu_seconds: float | None = None,
        max_total_eecu_seconds: float | None = None,
        max_failures: float = 0,
        stop_at_failure: bool = True,
        timeout_at: float | None = None,
        handover: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.handover = handover
        self.cancel_on_kill = cancel_on_kill
        self.options = WaitOptions(
            self.poll_interval, stop_at_failure, max_eecu_seconds, max_total_eecu_seconds, max_failures
        )
        self.timeout_at = timeout_at
        self._has_answered = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what this trigger is made of again after a restart of the triggerer."""
        path, kwargs = super().serialize()
        own = {name: getattr(self, name) for name in ("cancel_on_kill", "timeout_at", "handover")}
        return path, {**kwargs, **self.options.as_kwargs(), **own}

    async def wait(self) -> list[Any]:
        """Wait for the end of all operations or the failure of one."""
        use, settled = self.hook.client(), 0.0  # A kill uses the client that the waiting has used.
        try:
            try:
                settled = await self._take_over()
                watch(self)
                client = await use.enter()
                self.hook.account = client.account
                found = await client.run(self._flow(client.account), self.log)
            except EarthEngineError:
                await sleep_until(settled)
                raise
            await sleep_until(settled)
        except asyncio.CancelledError as why:
            unwatch(self)
            if is_an_inline_trigger():
                await cancel_for_author_of(self)
            # From 3.3 on, that a user has acted; it says nothing where the triggerer stops.
            is_told = bool(why.args)
            if self.task_instance is not None and (is_told or not tells_triggers_of_kills()):
                await self.cancel_if_unneeded(is_user_action=is_told)
            raise
        finally:
            unwatch(self)
            await use.leave()
        return [operation.as_dict() for operation in found]

    def _flow(self, account: Account) -> Flow[list[Operation]]:
        """Return the flow of the wait: a hook's method would be one more coroutine for each trigger."""
        return wait_for_operations(account.names(self.operation_names), self.options)

    async def _take_over(self) -> float:
        """Let the task's process end: Airflow now reports kills to this trigger; return when the process has ended."""
        if not self.handover or self.task_instance is None:
            return 0.0
        from asgiref.sync import sync_to_async

        from airflow_ee_provider.earth_engine.transport.drivers import in_background

        try:
            # In the background: Airflow 3.1's triggerer dies of a call to it that is cancelled half-way.
            writing = sync_to_async(take_over)(self.task_instance, str(self.handover))
            await asyncio.shield(in_background(writing))
        except Exception as error:  # noqa: BLE001 (the task's process then waits in vain for a while: no more)
            self.log.warning("It could not be written down that the trigger has begun: %s", error)
        return time.monotonic() + SETTLE

    async def on_kill(self) -> None:
        """Cancel, because a user acted on the task; Airflow 3.3 calls this, and bounds it to 30 s.

        It calls this, too, where another triggerer has taken the trigger over because this one's heartbeats were late:
        then the task still waits, and nothing is cancelled. It does not call it where it takes the kill for a timeout
        by this machine's clock; so `wait` does the same when it is cancelled, and comes first.
        """
        await self.cancel_if_unneeded(is_user_action=True)

    async def cancel_if_unneeded(self, *, is_user_action: bool) -> None:
        """Cancel if the task does not wait any more, and not because of its timeout; once.

        While it waits, the triggerer only stops, or another one continues with the trigger.

        :param is_user_action: whether Airflow has told that a user has acted.
        """
        if self.cancel_on_kill and not self._has_answered:
            self._has_answered = True
            await finish(self._in_time(self._decide_and_cancel(is_user_action=is_user_action)))

    async def _in_time(self, cancelling: Coroutine[Any, Any, None]) -> None:
        """Cancel, in the background from the moment on in which Airflow does not wait for the end of it.

        A triggerer can have a thousand triggers that all ask Airflow first, one after the other.
        """
        from airflow_ee_provider.earth_engine.transport.drivers import in_background

        under_way = in_background(cancelling)
        await asyncio.wait([under_way], timeout=ON_KILL_TIMEOUT)
        if not under_way.done():
            self.log.warning("Not all operations are cancelled and confirmed yet: the triggerer continues with that.")

    async def _decide_and_cancel(self, *, is_user_action: bool) -> None:
        decision = await self.decide(is_user_action=is_user_action)
        if decision.outcome is Outcome.CANCEL:
            self.log.warning("The deferred task was killed; cancelling %s.", abbreviated(self.operation_names))
            await self._cancel_now()
        else:
            self.log.info("Nobody has acted on the task; %s are not cancelled.", abbreviated(self.operation_names))
            self._has_answered = False

    async def decide(self, *, is_user_action: bool) -> Decision:
        """Ask Airflow how the task stands, until it says so, and decide."""
        pauses = ASKED_AGAIN_AFTER if is_user_action else ASKED_AGAIN_AFTER[:1]
        known = Situation(Event.TRIGGER, is_user_action=is_user_action, cancel_on=frozenset({"kill"}))
        for pause in pauses if self.task_instance is not None else ():
            await asyncio.sleep(pause)
            try:
                return decide(await self._with_answers(known))
            except Exception as error:  # noqa: BLE001 (Airflow raises what it likes)
                self.log.warning("The task's state could not be read: %s", error)
        return decide(known)

    async def _with_answers(self, known: Situation) -> Situation:
        """Ask for the task's state and try: after a clear, the next one can be deferred before this is cancelled."""
        from asgiref.sync import sync_to_async

        # The clock alone says nothing: the worker, which has reckoned with it, may have another one.
        has_timed_out = self.timeout_at is not None and time.time() >= self.timeout_at
        known = replace(known, state=await sync_to_async(own_state)(self.task_instance), has_timed_out=has_timed_out)
        if decide(known).outcome is Outcome.CANCEL:
            return known
        mine = getattr(self.task_instance, "try_number", None)
        latest = await sync_to_async(own_try)(self.task_instance, TRY_KEY)
        # A worker that stood still can write down that an earlier try has begun.
        is_later_try = latest is not None and (mine is None or latest > mine)
        return replace(known, is_later_try=is_later_try)

    async def _cancel_now(self) -> None:
        """Cancel, and again where Earth Engine was away: nobody else does."""
        from asgiref.sync import sync_to_async

        names, dag_id = self.operation_names, getattr(self.task_instance, "dag_id", None)
        for pause in CANCELLED_AGAIN_AFTER:
            if pause:
                self.log.warning(
                    "%s could not be cancelled now; that is tried again in %g s.", abbreviated(names), pause
                )
            await asyncio.sleep(pause)
            with log_errors(self.log):
                results = await self.hook.cancel_operations(names, **CONFIRM_LIMITS)
                results = ended_by_cancel(results) if pause else results
                report_cancels(results, self.log, cause="kill", dag_id=dag_id)
                names = [str(result.name) for result in results if result.unanswered]
                if all(result.outcome.is_fine(not_found_ok=True) for result in results):
                    with suppress(Exception):  # The collector then asks Earth Engine, no more.
                        await sync_to_async(note_settled)(self.task_instance)
            if not names:
                return
        self.log.error("%s could not be cancelled in all this time, and may still run.", abbreviated(names))


class EarthEngineQueueTrigger(EarthEngineOperationsTrigger):
    """
    Wait until a task can start more operations: until enough of those that it has started have ended.

    :param unfinished: how many of them may still run then.
    :param room_timeout: seconds after which the task tries all the same: others may have left the queue. None where
        only the task's own operations can make room.
    :param since: when the project's queue has become full, in seconds since the epoch; the event says it again.
    :param kwargs: the parameters of `EarthEngineOperationsTrigger`.
    """

    def __init__(self, *, unfinished: int, room_timeout: float | None, since: float | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unfinished, self.room_timeout, self.since = unfinished, room_timeout, since

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what this trigger is made of again after a restart of the triggerer."""
        path, kwargs = super().serialize()
        own = {name: getattr(self, name) for name in ("unfinished", "room_timeout", "since")}
        return path, {**kwargs, **own}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and say what the task has to know to go on."""
        async for event in super().run():
            yield TriggerEvent({**event.payload, "since": self.since})

    def _flow(self, account: Account) -> Flow[list[Operation]]:
        names = account.names(self.operation_names)
        return wait_for_room(names, self.options, unfinished=self.unfinished, timeout=self.room_timeout)


class EarthEngineCancelOperationsTrigger(Trigger):
    """
    Wait until Earth Engine says what became of cancels that were requested before.

    :param operation_names: full names of those that are still cancelling.
    :param outcomes: the outcomes of all operations so far; the event carries them, completed.
    :param poll_interval: seconds between two polls.
    :param others: operations of other accounts: each with its account's parameters and ``operation_names``.
    """

    def __init__(
        self, *, outcomes: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.outcomes, self.others = list(outcomes), list(others)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what this trigger is made of again after a restart of the triggerer."""
        path, kwargs = super().serialize()
        return path, {**kwargs, "outcomes": self.outcomes, **({"others": self.others} if self.others else {})}

    async def wait(self) -> list[Any]:
        """Wait for the confirmation of every cancel; the task's own timeout bounds it."""
        from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook

        groups = [(self.hook, self.operation_names)]
        for other in self.others:
            account = {name: value for name, value in other.items() if name != "operation_names"}
            groups.append((EarthEngineAsyncHook(**account), other["operation_names"]))
        how: dict[str, Any] = {"poll_interval": self.poll_interval, "timeout": LONGEST}
        results = await asyncio.gather(*(hook.confirm_cancels(names, **how) for hook, names in groups if names))
        confirmed = {str(result.name): result.as_dict() for group in results for result in group}
        return [{**outcome, **confirmed.get(outcome["name"], {})} for outcome in self.outcomes]
