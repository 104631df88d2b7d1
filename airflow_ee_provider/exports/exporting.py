"""What starts exports and owns them to their end: the export operator and ``@task.earth_engine`` alike."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from airflow_ee_provider.base.airflow_versions import trigger_timed_out
from airflow_ee_provider.base.connection import account_of
from airflow_ee_provider.base.errors import airflow_errors, airflow_exception, result_or_raise, waits_itself
from airflow_ee_provider.base.measuring import measure_ended
from airflow_ee_provider.base.process import threads_may_ask_airflow
from airflow_ee_provider.earth_engine.ee_client.objects import place_of
from airflow_ee_provider.earth_engine.model.destinations import console_url_of, link_to
from airflow_ee_provider.earth_engine.model.failures import can_pass
from airflow_ee_provider.earth_engine.model.log_text import some_of
from airflow_ee_provider.earth_engine.model.metrics import measure
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.model.operations import Operation
from airflow_ee_provider.earth_engine.protocol.starting import (
    Export,
    Import,
    check_export,
    check_import,
    with_defaults,
    workload_tag_of,
)
from airflow_ee_provider.exports.lineage import add_outlet_assets, operator_lineage
from airflow_ee_provider.exports.parameters import ExportParameters
from airflow_ee_provider.exports.queue import start_as_there_is_room
from airflow_ee_provider.exports.requested import Made, Wanted, all_asked
from airflow_ee_provider.exports.restarts import failed_to_restart, tries_so_far
from airflow_ee_provider.exports.results import lines_of, value_of
from airflow_ee_provider.exports.starter import Starter
from airflow_ee_provider.lifecycle.interrupts import heeding_ctrl_c
from airflow_ee_provider.lifecycle.signals import handlers_put_back
from airflow_ee_provider.links.earth_engine import EarthEngineOutputLink, EarthEngineTasksLink
from airflow_ee_provider.tracking.record import cancel_on_of
from airflow_ee_provider.tracking.requests import Asked, check_value, keep, kept, let_go
from airflow_ee_provider.tracking.resuming import left_by_the_last_try, names_in, record_all_started, resume_started
from airflow_ee_provider.tracking.store import record_started, recorded_with_keys, started_by_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import OperationDict
    from airflow_ee_provider.earth_engine.protocol.starting import Start


class ExportingOperator(ExportParameters):
    """Start exports exactly once each, write their names down, and wait until all have succeeded."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._starter: Starter | None = None
        self._ended: set[str] = set()
        #: What was waited for, as it was read last.
        self.ended: list[OperationDict] = []
        #: What has failed, and is started again.
        self._restarted: set[str] = set()
        #: What was started in threads that may not ask Airflow.
        self._unrecorded: dict[str, str] = {}
        #: Since when there has been no room in the project's queue, in seconds since the epoch.
        self.full_since: float | None = None
        self._destination_uris: list[str] = []

    def start_and_wait(self, context: Context, make_exports: Callable[[Starter], Made | Sequence[Wanted]]) -> Any:
        """Start the exports, go on with what the last try has started, wait, and return the function's value.

        :param make_exports: returns what is to be started, and may start some of it by itself with the `Starter` that
            it is given. It is called once in a try, unless all is known to be started. What it returns is its value and
            the operations in it, or those alone: then their list is the value.
        """
        with self._owned(context):
            asked = self.begin(context)
            if asked is None or self.max_restarts:  # Those need the requests, which only the function can make again.
                asked = self._ask(context, make_exports)
            else:
                self.log.info("Going on with what the last try has started: %s.", some_of(self.operation_names))
                check_value(context, asked.value)
            return self.carry_out(context, asked)

    def begin(self, context: Context) -> Asked | None:
        """Go on with what the last try has started; return what it had asked for, if all of that is started."""
        with airflow_errors():
            self.hook.make_ready()
            left = left_by_the_last_try(context)
            self.operation_names = names_in(left)  # A kill may come before Earth Engine says what they are.
            how = "cancel" if self.cancel_on_kill else "ignore"
            self.operation_names, asked = resume_started(context, self.hook, left, on_clear=how)
        self.end_if_told()
        return asked

    def carry_out(self, context: Context, asked: Asked) -> Any:
        """Start what is not started yet, wait for all, and start again what may be; here or in another process."""
        while True:
            self._start_all(context, asked)
            operations = self._wait(context, asked)
            if not self._are_to_restart(context, operations, asked):
                return self.finish(context, operations, asked)

    def _are_to_restart(self, context: Context, operations: list[OperationDict], asked: Asked) -> bool:
        """Whether some have failed, and are started again: `_start_all` then takes them for not started."""
        if again := failed_to_restart(context, operations, self.max_restarts, asked.starts):
            self.log.warning("These have failed in a way that can pass, and are started again: %s.", some_of(again))
            self._restarted = set(again)
            self.new_starter(context, asked)
        return bool(again)

    def _wait(self, context: Context, asked: Asked) -> list[OperationDict]:
        """Wait for what was started, here or in the triggerer; what has ended by now needs no waiting."""
        options = self.wait_options
        with airflow_errors():
            progress = self.hook.poll_operations(self.operation_names, **self.limits)
        found = progress.found
        if not self.wait_for_completion:
            found = [progress.latest.get(name) or Operation.unread(name) for name in progress.names]
        elif not progress.is_over(options):
            if self.deferrable and self.is_kept(context, asked, (), "max_restarts"):
                from airflow_ee_provider.triggers.earth_engine import EarthEngineOperationTrigger

                self.wait_in_triggerer(context, self.operation_names, EarthEngineOperationTrigger)
            with airflow_errors():
                found = self.hook.wait_for_operations(self.operation_names, **options.as_kwargs())
        return [operation.as_dict() for operation in found]

    def is_kept(self, context: Context, asked: Asked, needed: Sequence[Start], parameter: str) -> bool:
        """Whether another process can go on with what was asked for: it is kept for that, unless it is too large.

        :param needed: what that process is to start.
        :param parameter: that asks for it.
        """
        starts = asked.starts if self.max_restarts else list(needed)
        return keep(context, asked, starts, self.log, parameter)

    def start_more(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on with starting, once there may be room."""
        with self._owned(context):
            if not waits_itself(self, event):
                result_or_raise(event)
            self.full_since = event.get("since")
            return self.carry_out(context, self._kept(context))

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Return the function's value with its operations, or fail as they did."""
        with self._owned(context):
            if waits_itself(self, event):
                return self.carry_out(context, self._kept(context))
            operations: list[OperationDict] = result_or_raise(event)
            asked = self._kept(context)
            if not self._are_to_restart(context, operations, asked):
                return self.finish(context, operations, asked)
            return self.carry_out(context, asked)

    def _kept(self, context: Context) -> Asked:
        """Return what this try has asked for, in another process than the one that has."""
        asked = kept(context, {} if self.max_restarts else started_by_task(context))
        self.new_starter(context, asked)
        self.operation_names = asked.names(started_by_task(context))
        return asked

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Cancel as well where the trigger itself has failed, and no next try goes on with the exports."""
        if next_method != "__fail__" or trigger_timed_out(next_method, next_kwargs):
            return super().resume_execution(next_method, next_kwargs, context)
        with self._owned(context):
            return super().resume_execution(next_method, next_kwargs, context)

    def left_by_the_last_try(self, context: Context) -> list[str]:
        """Return what an earlier try has started, and this one has not recorded yet."""
        return names_in(left_by_the_last_try(context))

    def stop(self) -> None:
        """Start nothing more."""
        if self._starter:
            self._starter.stop()

    def cancel_late_starts(self) -> None:
        """Cancel as well what Earth Engine is only now heard to have started."""
        if self._starter:
            self._starter.cancel_what_comes()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Tell OpenLineage, where it is installed, what was written."""
        return operator_lineage(self._destination_uris)

    @contextmanager
    def _owned(self, context: Context) -> Iterator[None]:
        """Let no exception leave the task before a user's act, a timeout or an interrupt is dealt with.

        Airflow decides by the exception how the task ends, so it stays what it is; see `on_end` for what follows.
        """
        try:
            with heeding_ctrl_c(self, context["ti"]):
                yield
        except TaskDeferred:
            raise
        except AirflowTaskTimeout as error:
            self.on_timeout(error)
            raise
        except BaseException as error:
            self.stop()
            self.on_failure(error)
            raise

    @property
    def is_meant_to_run_on(self) -> bool:
        """Whether what the task has is to run on after it, for as long as its run has not failed."""
        return not self.wait_for_completion

    @property
    def own_operations(self) -> list[str]:
        """What this task has, and has not seen end."""
        started = list(self._starter.started) if self._starter else []
        return [name for name in dict.fromkeys([*self.operation_names, *started]) if name not in self._ended]

    @property
    def own_starts(self) -> list[Start]:
        """What this process has asked Earth Engine to start, without having heard its answer."""
        return self._starter.under_way if self._starter else []

    def new_starter(self, context: Context, asked: Asked | None = None) -> Starter:
        """Let another `Starter` start for this process; it knows what this try has started or goes on with."""
        forgotten = self._restarted | (asked.set_aside if asked else set())
        known = {key: name for key, name in started_by_task(context).items() if name not in forgotten}

        def record(started: dict[str, str]) -> None:
            measure("operations_started", len(started), dag_id=self.dag_id_of_run)
            if threading.current_thread() is threading.main_thread() or threads_may_ask_airflow():
                self._record(context, started)
            else:
                self._unrecorded.update(started)

        self._starter = Starter(
            self.hook,
            context,
            record,
            known=known,
            tries=tries_so_far(context, self.max_restarts, is_restart=bool(self._restarted)),
            queue_timeout=self.queue_timeout,
            workload_tag=self._tag(context),
            priority=self.priority,
        )
        self.end_if_told()
        return self._starter

    def _record(self, context: Context, started: Mapping[str, str]) -> None:
        record_started(context, started, account_of(self), self.ownership, cancel_on_of(self))

    def _tag(self, context: Context) -> str:
        return workload_tag_of(context["ti"].dag_id) if self.workload_tag is None else self.workload_tag

    def _ask(self, context: Context, make_exports: Callable[[Starter], Made | Sequence[Wanted]]) -> Asked:
        """Call the function, and return what it asks for, and what the last try has started."""
        starter = self.new_starter(context)
        with airflow_errors(), handlers_put_back():
            made = make_exports(starter)
        self.continue_if_own()  # It may have had a signal that the function's own handler has taken.
        return self.settle(context, starter, made)

    def settle(self, context: Context, starter: Starter, made: Made | Sequence[Wanted]) -> Asked:
        """Check what a function has made, once it has returned, and return what is to be started and waited for."""
        left = list(self.operation_names)
        if not isinstance(made, Made):
            made = Made([place_of(number) for number in range(len(made))], list(made))
        with airflow_errors():
            for export in made.operations:
                if isinstance(export, Export):
                    check_export(Export(export.kind, with_defaults(export.body, self._tag(context), self.priority)))
                elif isinstance(export, Import):
                    check_import(export)
            if self._unrecorded:
                self._record(context, self._unrecorded)
            if not self.ignore_refused_starts:
                starter.check_refusals()
            check_value(context, made.value)
            if adopted := [one for one in made.operations if isinstance(one, OperationName)]:
                self._record(context, dict.fromkeys(map(str, adopted), ""))
                self.operation_names = list(dict.fromkeys([*self.operation_names, *map(str, adopted)]))
            asked = all_asked(self.hook, starter, made, left, recorded_with_keys(context))
        self._check_not_killed(starter)
        urls = (console_url_of(one.body) for one in made.operations if isinstance(one, Export))
        EarthEngineOutputLink.persist(context, next(urls, ""))
        return asked

    def _check_not_killed(self, starter: Starter) -> None:
        if starter.stopped:
            raise AirflowException(f"{self.task_id} was killed: nothing more is started.")

    def _start_all(self, context: Context, asked: Asked) -> None:
        """Start what is not started yet; each name is written down before anything waits on it."""
        starter = self._starter or self.new_starter(context, asked)
        with airflow_errors():
            start_as_there_is_room(self, context, starter, asked)
        self._check_not_killed(starter)
        self.operation_names = asked.names(started_by_task(context))
        record_all_started(context, asked)
        EarthEngineTasksLink.persist_for(context, self.hook.account.names(self.operation_names))

    def finish(self, context: Context, operations: list[OperationDict], asked: Asked) -> Any:
        """Return the function's value with its operations in it, if no more than may fail have failed."""
        self.end_if_cancelled()
        self.ended = operations
        measure_ended(operations, self.dag_id_of_run)
        self.check_failures(operations)
        self._destination_uris = [uri for operation in operations for uri in operation["destination_uris"]]
        if self._destination_uris:
            EarthEngineOutputLink.persist(context, link_to(self._destination_uris[0]))
            add_outlet_assets(context, self.outlets, self._destination_uris, self.log)
        if self.do_xcom_push:
            context["ti"].xcom_push(key="operations", value=operations)
            context["ti"].xcom_push(key="operation_names", value=[operation["name"] for operation in operations])
        let_go(context, asked)
        with airflow_errors():
            return value_of(self.hook, asked, operations, started_by_task(context))

    def check_failures(self, operations: Sequence[OperationDict]) -> None:
        """Say how operations have ended.

        :raises AirflowFailException: with the end of each, if more have failed than may; `on_end` cancels the others.
        :raises AirflowException: the same, if starting what has failed again may help.
        """
        self.end_if_cancelled()
        self._ended = {operation["name"] for operation in operations if operation["done"]}
        lines = lines_of([operation for operation in operations if operation["done"]])
        for line in lines:
            self.log.info("%s", line)
        errors = [operation["error"] for operation in operations if operation["error"]]
        if not self.wait_options.allows(len(errors), len(self.operation_names)):
            raise airflow_exception(
                f"{len(errors)} of {len(self.operation_names)} operations did not succeed:\n  " + "\n  ".join(lines),
                permanent=not all(can_pass(error) for error in errors),
            )
