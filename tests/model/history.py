"""One history: a holder of operations on a version of Airflow, with strikes at some steps, and the invariants."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import official
from airflow_model import Airflow
from cleaners import CLEANERS, CleaningUp
from database_model import BYSTANDER, SIBLING, STARTER, TERMINAL, VERSIONS
from holders import EXPORTS, HOLDERS
from plans import History, Plan
from seams import in_model
from strikes import CLEARED, EITHER, FAULTS, LEAVES_NOBODY, STRIKES, TIMEOUTS, TRIED_AGAIN, UNWANTED
from world import PROJECT, Process, World

from airflow_ee_provider.tracking.record import OPERATIONS_KEY, Record

if TYPE_CHECKING:
    from collections.abc import Callable


#: Seconds after which an unfinished history counts as stuck, and for which a finished one is still watched.
LONGEST, AFTERWARDS = 400.0, 70.0

#: States in which a task waits without a process.
WAITS = ("deferred", "up_for_reschedule")

#: Seconds within which the cancel of an unneeded operation must be requested, once Earth Engine responds: by the task
#: or its trigger, or by the collector.
CANCEL_WITHIN, COLLECTED_WITHIN = 45.0, 90.0

#: Seconds between a request for an export and the record of its operation that the next try reads.
AMID_REQUEST = 0.12


class Run:
    """Carries out a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.history = plan, History(plan)
        self.world = world = World({number: self._strike(what) for number, what in plan.strikes})
        world.globals += official.GLOBALS
        self.mine: list[str] = []
        self.exports = EXPORTS.get(plan.holder.partition(",")[0], 0)
        if not self.exports:
            self.mine = [world.service.add(f"mine {n}", PROJECT) for n in range(2)]
        self.bystanders = [world.service.add("bystander", PROJECT, run_seconds=1e6) for _ in range(2)]
        make = HOLDERS[plan.holder]
        # Enough for each lost worker and each outage of Earth Engine.
        retries = max(1, 2 * (len(plan.strikes) - 1)) if plan.retries else 0
        self.airflow = Airflow(world, VERSIONS[plan.version], lambda: make(list(self.mine)), retries=retries)
        for instance, name in zip((SIBLING, BYSTANDER), self.bystanders, strict=True):
            if instance not in CLEANERS[plan.cleaner].also_cleans:
                self.airflow.xcoms[instance][OPERATIONS_KEY] = Record((name,), None, *instance).as_json()
        if plan.holder.startswith("sensor") and plan.cleaner == "collector":
            started = Record(tuple(self.mine), None, *STARTER, ownership="handed_off")
            self.airflow.xcoms[STARTER] = {OPERATIONS_KEY: started.as_json()}
        self.cleaner = CleaningUp(self.airflow, plan.cleaner, self.history.struck)
        self.struck_at = math.inf
        #: Whether a user ended the task after its deferral and before its trigger started.
        self.was_between = False
        #: Whether a later try was ended before it had read what the earlier ones have started.
        self.was_unread = False
        self.struck_moments: list[float] = []
        self.struck_names: list[str] = []
        world.watchers.append(self._watch)

    def _strike(self, what: str) -> Callable[[], None]:
        def happen() -> None:
            self.world.note(f"===> {what}")
            self.history.struck.append(what)
            self.struck_moments.append(self.world.now)
            if self.exports and what in UNWANTED | EITHER:
                self.was_unread |= self.airflow.row.try_number > max(1, self.airflow.read_in)
            if (what in UNWANTED or not self.plan.retries) and self.struck_at == math.inf:
                row = self.airflow.row
                self.was_between = row.state == "deferred" and self.airflow.triggerer.begun != row.trigger_number
                is_continued = self._is_continued(what)
                STRIKES[what](self.airflow)
                if self.airflow.unwanted_since < math.inf:
                    self.struck_at, self.struck_names = self.world.now, self._held()
                    # Earth Engine completes none of the task's operations after this; a cancel request still ends them.
                    for name in () if is_continued else self._held():
                        self._never_ends(name)
                return
            STRIKES[what](self.airflow)

        return happen

    def _is_continued(self, what: str) -> bool:
        """Whether a sensor that is struck now waits for the same operations again: it sleeps, or has no trigger yet."""
        is_asleep = self.plan.holder == "sensor, reschedule"
        is_asleep |= self.was_between and self.plan.holder.startswith("sensor")
        return is_asleep and what.startswith("task_cleared")

    def _held(self) -> list[str]:
        return [name for name in self.world.service.operations if name not in self.bystanders]

    def _never_ends(self, name: str) -> None:
        operation = self.world.service.operations[name]
        if not operation.done(self.world.now) and not self.plan.holder.startswith("cancel"):
            operation.behaviour = replace(operation.behaviour, run_seconds=1e6)

    def _watch(self, method: str, path: str, process: Process | None) -> None:
        """Check each request that Earth Engine has carried out."""
        name, _, verb = path.partition(":")
        if verb == "export" and self.struck_at < math.inf and process is not None and process.kind == "try 1":
            self._never_ends(list(self.world.service.operations)[-1])
        is_read = method == "GET" and process is not None and process.kind == "try 1"
        is_read = is_read and process is self.airflow.row.process and not process.was_told
        is_read = is_read and bool(self.exports) and self.struck_at == math.inf and not verb
        if is_read and name not in self.airflow.recorded():
            self._violated("an operation is waited for, and nobody has written its name down")
        if verb != "cancel":
            return
        if name in self.bystanders:
            self._violated("a bystander's operation is cancelled")
        elif (
            self.airflow.unwanted_since == math.inf
            # An outage of Earth Engine fails a task without retries for good.
            and (self.plan.retries or "earth_engine_away" not in self.history.struck)
            and not self.plan.holder.startswith("cancel")
            and self.airflow.row.state not in TERMINAL
            and (name in self.airflow.recorded() or not self.exports)  # An unrecorded export is started again.
        ):
            self._violated(f"{name} is cancelled, and its task still wants it")

    def _violated(self, what: str) -> None:
        if what not in self.history.violations:
            self.world.note(f"!!!! {what}")
            self.history.violations.append(what)

    def carry_out(self) -> History:
        """Carry out the plan until nothing happens any more, and check the invariants."""
        with in_model(self.world, self.airflow):
            self._until_quiet()
            self._check()
        self.airflow.triggerer.close()
        self.history.timeline = self.world.timeline
        self.history.steps = self.world.steps
        return self.history

    def _until_quiet(self) -> None:
        world, airflow = self.world, self.airflow
        began, quiet_since = world.now, math.inf
        while world.now - began < LONGEST:
            for loop in list(airflow.triggerer.loops()):
                loop.pump()
            moment = min([world.next_moment(), *(loop.next_moment() for loop in airflow.triggerer.loops())])
            if moment < world.next_moment():
                world.now = max(world.now, moment)
            else:
                world.happen()
            is_over = airflow.row.state in TERMINAL and not self.cleaner.is_awaited
            if is_over and quiet_since == math.inf:
                quiet_since = world.now
                for name in self._held() if airflow.row.state == "failed" else ():
                    self._never_ends(name)
            if world.now - quiet_since > AFTERWARDS:
                return
        kinds = set(self.history.struck)
        # After a lost worker or a timeout, the next try continues with the operations.
        is_tried_again = bool((LEAVES_NOBODY | TRIED_AGAIN) & kinds) and len(self.plan.strikes) > 1
        # (If a sensor is cleared while its try fails or is deferred, the next try waits for the same operations.)
        is_leaving = bool(kinds & set(EITHER)) or airflow.refused_after > -math.inf
        is_cleared = is_leaving and self.plan.holder.startswith("sensor") and bool(kinds & CLEARED)
        is_waited_for = is_cleared or (airflow.row.state in WAITS and not set(UNWANTED) & kinds)
        # (If the provider's code catches the injected error, the error does not leave the task.)
        is_caught = "retry_policy" in kinds and not airflow.row.is_failed_by_policy
        is_caught |= "exception" in kinds and airflow.row.state == "running"
        is_caught |= "run_ends_alone" in kinds  # Airflow no longer schedules the run's tasks.
        if not self._may_be_left() and not is_tried_again and not is_waited_for and not is_caught:
            self._violated(f"is stuck, {airflow.row.state}")

    def _check(self) -> None:
        """Check the invariants of a finished history."""
        self._check_what_runs()
        self._check_what_was_started()
        self._check_how_it_ended()

    def _check_what_runs(self) -> None:
        service, now, row = self.world.service, self.world.now, self.airflow.row
        held = self._held()
        running = [n for n in held if not service.operations[n].done(now) and not self._is_forgotten(n)]
        if running and row.state in TERMINAL and not self._may_be_left():
            self._violated(f"{', '.join(running)} runs on, and its task is {row.state}")
        # (The dag-processor ends a callback that waits for a slow Airflow twice.)
        is_ended_before = self.history.struck.count("airflow_slow") > 1 and "notifier" in self.plan.cleaner
        is_ended_before |= self.plan.cleaner == "collector" and "run_deleted" in self.history.struck
        if not is_ended_before and (left := self.cleaner.known & set(running)):
            self._violated(f"{', '.join(left)} runs on, and the {self.plan.cleaner} has found its name")
        can_be_asked = max(self.struck_at, self.world.last_fault)
        late = [
            name
            for name in self.struck_names
            if (asked := service.operations[name].cancel_requested) is not None
            and asked - can_be_asked > (COLLECTED_WITHIN if self.plan.cleaner == "collector" else CANCEL_WITHIN)
            and not self.plan.holder.startswith("cancel")
        ]
        if late and not self._may_be_left():
            self._violated(f"{', '.join(late)} was cancelled late")

    def _check_what_was_started(self) -> None:
        service, row, held = self.world.service, self.airflow.row, self._held()
        starts_anew = bool(self.exports) and set(self.history.struck) <= TIMEOUTS
        is_unended = (self.struck_at == math.inf or starts_anew) and "connection_away" not in self.history.struck
        if is_unended and row.state != "success" and self.plan.retries and not self.plan.holder.startswith("cancel"):
            self._violated(f"nobody has ended the task, and it is {row.state}")
        raced = self.struck_at < math.inf and "operations_end" in self.history.struck  # They may end before the cancel.
        if self.exports and not raced:
            ended_well = [
                name
                for name in held
                if service.operations[name].cancel_requested is None
                and not (self.struck_at < math.inf and self._is_forgotten(name))
                and (self.struck_at == math.inf or service.operations[name].ended() > self.struck_at)
            ]
            if len(ended_well) > self.exports and not self._may_be_left():
                self._violated(f"{len(ended_well)} operations were started, where {self.exports} are wanted")

    def _check_how_it_ended(self) -> None:
        service, row, held = self.world.service, self.airflow.row, self._held()
        # (The cancel operator's trigger resumes its task as soon as other providers' triggers do; and a suspended
        # process cannot end in time.)
        may_be_taken = self.plan.holder.startswith("cancel") or "worker_stood_still" in self.history.struck
        if self.airflow.was_taken_for_lost and not may_be_taken:
            self._violated("a task was resumed so soon that it was taken for lost")
        if self.plan.holder.startswith("cancel") and any(
            service.operations[name].ended() > self.airflow.succeeded_at for name in held
        ):
            self._violated("a cancel was called confirmed before Earth Engine has said so")
        if self.exports and row.state == "success" and self.struck_at == math.inf:
            known = {name for name, since in self.airflow.remembered.items() if since < self.airflow.row.started}
            left_out = [name for name in known - self.airflow.recorded() if service.state(name) == "SUCCEEDED"]
            if left_out:
                self._violated(f"{', '.join(left_out)} of an earlier try is left out by the one that succeeds")
        only_faults = bool(self.history.struck) and set(self.history.struck) <= FAULTS
        if self.plan.holder.startswith("sensor") and only_faults and row.try_number > 1:
            self._violated("a fault of Earth Engine's that passes has cost a try")
        if more := [number for number, calls in self.airflow.calls.items() if calls > 1]:
            self._violated(f"try {more[0]} has called the function {self.airflow.calls[more[0]]} times")
        if self.airflow.errors:
            self._violated(f"an error of its own: {self.airflow.errors[0]}")

    def _is_forgotten(self, name: str) -> bool:
        """Whether only the `requestId` leads to an operation.

        Its try was ended amid the request, or its run was deleted.
        """
        airflow, created = self.airflow, self.world.service.operations[name].created
        if name in airflow.recorded():
            return False
        is_unknown = name not in airflow.remembered
        struck = zip(self.history.struck, self.struck_moments, strict=True)
        ended_amid = {what for what, moment in struck if abs(moment - created) < AMID_REQUEST}
        if is_unknown and self.plan.retries and ended_amid & {"worker_sigkill", *EITHER}:
            return True
        if created >= airflow.row.started:
            return is_unknown and "worker_sigkill" in self.history.struck
        # (In "changing", later tries do not request the export again.)
        return airflow.row.state == "removed" or (is_unknown and self.plan.holder.startswith("changing"))

    def _may_be_left(self) -> bool:
        """Whether an operation may keep running: a documented limit, or no code of the provider could run."""
        if self.airflow.was_unheard and self.plan.holder.startswith("sensor"):
            return True  # Another task started it, and the sensor's code has not run yet.
        if self.plan.cleaner == "collector":  # It only misses a run that was deleted before its first pass.
            return "run_deleted" in self.history.struck
        if self.plan.holder == "sensor, reschedule":
            return True  # While the sensor sleeps, none of the provider's code runs.
        if self.was_between or self.was_unread:
            return True  # The collector cancels them, or the next try, which has their names.
        # A user ended the task when no process or trigger was left that could cancel, or none could be told to.
        kinds = set(self.history.struck)
        if "run_ends_alone" in kinds:
            return True  # Airflow itself does not end the task.
        if LEAVES_NOBODY & kinds and len(kinds) > 1:
            return True
        # A try left them to the next one, and a user ended the task after the last request for its state.
        was_asked_before = math.inf > self.struck_at >= self.airflow.asked_at > -math.inf
        if kinds & set(EITHER) and self.plan.retries and was_asked_before:
            return True
        if "connection_away" in kinds and self.plan.holder.startswith("sensor"):
            return True  # It cannot be read in any of the sensor's tries.
        # A sensor timed out while Earth Engine was down: its next try sees one cancelled operation, and leaves others.
        if self.plan.holder.startswith("sensor") and "earth_engine_away" in kinds and TRIED_AGAIN & kinds:
            return True
        # Before 3.3, some hundredths of a second lie between the last request and the deferral.
        was_refused = self.struck_at >= self.airflow.refused_after > -math.inf
        return was_refused and not self.airflow.version.stops_after_refusal
