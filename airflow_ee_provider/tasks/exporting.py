"""What starts exports and owns them to their end: the export operator and ``@task.earth_engine`` alike."""

from __future__ import annotations

import inspect
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from airflow_ee_provider.airflow_versions import threads_may_ask_airflow, trigger_timed_out
from airflow_ee_provider.earth_engine.destinations import console_url_of, link_to
from airflow_ee_provider.earth_engine.failures import can_pass
from airflow_ee_provider.earth_engine.flows.starting import (
    Export,
    Import,
    check_export,
    check_import,
    with_defaults,
    workload_tag_of,
)
from airflow_ee_provider.earth_engine.many import are_few, counted, some_lines, some_of
from airflow_ee_provider.earth_engine.metrics import measure
from airflow_ee_provider.earth_engine.operation_names import OperationName
from airflow_ee_provider.earth_engine.operations import Operation
from airflow_ee_provider.links.earth_engine import EarthEngineOutputLink, EarthEngineTasksLink
from airflow_ee_provider.tasks.clean_up import (
    account_of,
    airflow_errors,
    airflow_exception,
    cancel_here,
    log_instead_of_raising,
    report_cancels,
    result_or_raise,
)
from airflow_ee_provider.tasks.export_parameters import ExportParameters
from airflow_ee_provider.tasks.interrupting import heeding_ctrl_c
from airflow_ee_provider.tasks.lineage import add_outlet_assets, operator_lineage
from airflow_ee_provider.tasks.measuring import measure_ended
from airflow_ee_provider.tasks.records import record_operations, record_started, started_by_task, wanted_of_task
from airflow_ee_provider.tasks.restarts import failed_to_restart, tries_so_far
from airflow_ee_provider.tasks.resuming import left_by_the_last_try, names_in, record_all_started, resume_started
from airflow_ee_provider.tasks.room import start_as_there_is_room
from airflow_ee_provider.tasks.signals import handlers_put_back
from airflow_ee_provider.tasks.starter import Starter
from airflow_ee_provider.tasks.waiting_task import line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.flows.starting import Start
    from airflow_ee_provider.earth_engine.results import OperationDict


#: What a task can own: it starts the first two, and adopts the third.
Wanted = Export | Import | OperationName


class ExportingOperator(ExportParameters):
    """Start exports exactly once each, write their names down, and wait until all have succeeded."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._starter: Starter | None = None
        self._ended: set[str] = set()
        #: What has failed, and is started again.
        self._restarted: set[str] = set()
        #: When this task has started something last, if it goes on with starting in another process.
        self.started_last: float | None = None
        self._destination_uris: list[str] = []

    def start_and_wait(
        self, context: Context, make_exports: Callable[[Starter], Sequence[Wanted]]
    ) -> list[OperationDict]:
        """Start the exports, or go on with what the last try has started, and wait.

        :param make_exports: returns what is to be started, and may start some of it by itself with the `Starter` that
            it is given; called unless all is known to be started.
        """
        with self._owned(context):
            complete = False
            with airflow_errors():
                self.hook.make_ready()
                if self.started_last is not None:
                    self.operation_names = wanted_of_task(context)
                else:
                    left = left_by_the_last_try(context)
                    self.operation_names = names_in(left)  # A kill may come before Earth Engine says what they are.
                    self.operation_names, complete = resume_started(
                        context, self.hook, left, on_clear="cancel" if self.cancel_on_kill else "ignore"
                    )
            self.end_if_told()
            if complete:
                self.log.info("Going on with what the last try has started: %s.", some_of(self.operation_names))
                self._persist_links(context)
            else:
                self._start_all(context, make_exports)
            operations = self._wait(context)
            while self._are_to_restart(context, operations):
                self._start_all(context, make_exports)
                operations = self._wait(context)
            return self.finish(context, operations)

    def _are_to_restart(self, context: Context, operations: list[OperationDict]) -> bool:
        """Whether some have failed, and are started again: `_start_all` then takes them for not started."""
        if again := failed_to_restart(context, operations, self.max_restarts):
            self.log.warning("These have failed in a way that can pass, and are started again: %s.", some_of(again))
        self._restarted = set(again)
        return bool(again)

    def _wait(self, context: Context) -> list[OperationDict]:
        """Wait for what was started, here or in the triggerer; what has ended by now needs no waiting."""
        options = self.wait_options
        with airflow_errors():
            progress = self.hook.poll_operations(self.operation_names, **self.limits)
        found = progress.found
        if not self.wait_for_completion:
            found = [progress.latest.get(name) or Operation.unread(name) for name in progress.names]
        elif not progress.is_over(options):
            if self.deferrable:
                self.wait_in_triggerer(context, self.operation_names)
            with airflow_errors():
                found = self.hook.wait_for_operations(self.operation_names, **options.as_kwargs())
        return [operation.as_dict() for operation in found]

    def start_more(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on with starting, once there may be room."""
        with self._owned(context):
            result_or_raise(event)
        return self._go_on_starting(context, event["since"])

    def _go_on_starting(self, context: Context, since: float) -> Any:
        """Start what is left to be started: all is made again, and what was started is found.

        :param since: when this task has started something last, in seconds since the epoch.
        """
        self.started_last = since
        # Without Airflow's guard, which takes the call for one from outside of a task.
        return inspect.unwrap(type(self).execute)(self, context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[OperationDict]:
        """Return the operations, or fail as they did."""
        with self._owned(context):
            operations: list[OperationDict] = result_or_raise(event)
            if not self._are_to_restart(context, operations):
                return self.finish(context, operations)
        started: list[OperationDict] = self._go_on_starting(context, time.time())
        return started

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Cancel as well where the trigger itself has failed, and no next try goes on with the exports."""
        if next_method != "__fail__" or trigger_timed_out(next_method, next_kwargs):
            return super().resume_execution(next_method, next_kwargs, context)
        with self._owned(context):
            return super().resume_execution(next_method, next_kwargs, context)

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
    def own_operations(self) -> list[str]:
        """What this task has, and has not seen end."""
        started = list(self._starter.started) if self._starter else []
        return [name for name in dict.fromkeys([*self.operation_names, *started]) if name not in self._ended]

    @property
    def own_starts(self) -> list[Start]:
        """What this process has asked Earth Engine to start, without having heard its answer."""
        return self._starter.under_way if self._starter else []

    def _start_all(self, context: Context, make_exports: Callable[[Starter], Sequence[Wanted]]) -> None:
        left, unrecorded = set(self.operation_names) - self._restarted, dict[str, str]()
        known = {key: name for key, name in started_by_task(context).items() if name not in self._restarted}
        tag = workload_tag_of(context["ti"].dag_id) if self.workload_tag is None else self.workload_tag

        def record(started: dict[str, str]) -> None:
            measure("operations_started", len(started), dag_id=self.dag_id_of_run)
            if threading.current_thread() is threading.main_thread() or threads_may_ask_airflow():
                record_started(context, started, account_of(self), self.intent)
            else:
                unrecorded.update(started)

        starter = self._starter = Starter(
            self.hook,
            context,
            record,
            known=known,
            tries=tries_so_far(context, self.max_restarts, is_restart=bool(self._restarted)),
            queue_timeout=self.queue_timeout,
            workload_tag=tag,
            priority=self.priority,
        )
        self.end_if_told()
        with airflow_errors():
            with handlers_put_back():
                exports = make_exports(starter)
            self.continue_if_own()  # It may have had a signal that the function's own handler has taken.
            for export in exports:
                if isinstance(export, Export):
                    check_export(Export(export.kind, with_defaults(export.body, tag, self.priority)))
                elif isinstance(export, Import):
                    check_import(export)
            if unrecorded:
                record_started(context, unrecorded, account_of(self), self.intent)
            by_function = list(starter.started)
            names = list(dict.fromkeys([*by_function, *self._start(context, starter, exports)]))
            starter.check_refusals()
        if starter.stopped:
            raise AirflowException(f"{self.task_id} was killed: nothing more is started.")
        if not names:
            raise AirflowSkipException(f"{self.task_id} has made no export: there is nothing to do.")
        record_all_started(context, names)
        self.operation_names = names
        self._persist_links(context, *exports)
        if orphans := sorted(left - set(names)):
            self.log.warning("Cancelling what the last try has started and this one has not: %s.", some_of(orphans))
            with log_instead_of_raising(self.log):
                report_cancels(
                    cancel_here(self.hook, orphans, ()), self.log, cause="failure", dag_id=self.dag_id_of_run
                )

    def _start(self, context: Context, starter: Starter, exports: Sequence[Wanted]) -> list[str]:
        """Start exports, and adopt operations; each name is written down before anything waits on it."""
        if adopted := [export for export in exports if isinstance(export, OperationName)]:
            record_operations(context, adopted, **account_of(self), intent=self.intent)
            self.operation_names = list(dict.fromkeys([*self.operation_names, *map(str, adopted)]))
        starts = [starter.plan(e.method, e.body, e.project) for e in exports if not isinstance(e, OperationName)]
        start_as_there_is_room(self, context, starter, starts)
        started = iter(starts)
        return [str(e) if isinstance(e, OperationName) else starter.name_of(next(started)) for e in exports]

    def _persist_links(self, context: Context, *exports: Wanted) -> None:
        """Let the links lead to the first export."""
        EarthEngineTasksLink.persist_for(context, self.hook.account.names(self.operation_names))
        urls = (console_url_of(export.body) for export in exports if isinstance(export, Export))
        EarthEngineOutputLink.persist(context, next(urls, ""))

    def finish(self, context: Context, operations: list[OperationDict]) -> list[OperationDict]:
        """Return the operations if no more than may fail have failed.

        :raises AirflowFailException: with how each has ended; `on_end` cancels the others.
        :raises AirflowException: the same, if starting what has failed again may help.
        """
        self.end_if_cancelled()
        measure_ended(operations, self.dag_id_of_run)
        self._ended = {operation["name"] for operation in operations if operation["done"]}
        lines = _lines_of([operation for operation in operations if operation["done"]])
        for line in lines:
            self.log.info("%s", line)
        errors = [operation["error"] for operation in operations if operation["error"]]
        if not self.wait_options.allows(len(errors), len(self.operation_names)):
            raise airflow_exception(
                f"{len(errors)} of {len(self.operation_names)} operations did not succeed:\n  " + "\n  ".join(lines),
                permanent=not all(can_pass(error) for error in errors),
            )
        self._destination_uris = [uri for operation in operations for uri in operation["destination_uris"]]
        if self._destination_uris:
            EarthEngineOutputLink.persist(context, link_to(self._destination_uris[0]))
            add_outlet_assets(context, self.outlets, self._destination_uris, self.log)
        return operations


def _lines_of(operations: Sequence[OperationDict]) -> list[str]:
    """Say how operations have ended: a line for each of a few; of many the numbers, and what has failed."""
    if are_few(len(operations)):
        return [line_of(operation) for operation in operations]
    used = sum(operation["batch_eecu_usage_seconds"] or 0.0 for operation in operations)
    total = f"{len(operations):,} exports: {counted(o['state'] for o in operations)}; {used:,.0f} EECU-seconds"
    return [total, *some_lines([line_of(operation) for operation in operations if operation["error"]])]
