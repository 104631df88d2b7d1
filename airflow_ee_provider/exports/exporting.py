"""The base class of tasks that start exports: the export operator, the import operator and ``@task.earth_engine``."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowTaskTimeout, TaskDeferred

from airflow_ee_provider.base.airflow_versions import trigger_timed_out
from airflow_ee_provider.base.errors import airflow_errors, result_or_raise, waits_itself
from airflow_ee_provider.base.parameters import connection_kwargs
from airflow_ee_provider.earth_engine.model.log_text import abbreviated
from airflow_ee_provider.earth_engine.model.metrics import measure_ended
from airflow_ee_provider.earth_engine.model.operations import Operation
from airflow_ee_provider.earth_engine.protocol.starting import workload_tag_of
from airflow_ee_provider.exports.parameters import ExportParameters
from airflow_ee_provider.exports.queue import QueueFiller, QueueState, start_registered
from airflow_ee_provider.exports.requested import Made, Wanted, all_asked, tries_so_far
from airflow_ee_provider.exports.results import Results, failed_to_restart, operator_lineage
from airflow_ee_provider.exports.starter import Starter
from airflow_ee_provider.lifecycle.signals import cancelling_on_ctrl_c, handlers_put_back
from airflow_ee_provider.links.earth_engine import EarthEngineOutputLink, persist_links
from airflow_ee_provider.tracking.kept_requests import Asked, check_value, keep, kept, let_go, record_all_started
from airflow_ee_provider.tracking.record import cancel_on_of
from airflow_ee_provider.tracking.resuming import left_by_the_last_try, names_in, resume_started
from airflow_ee_provider.tracking.store import record_started, recorded_with_keys, started_by_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import OperationDict
    from airflow_ee_provider.earth_engine.protocol.starting import Start


class ExportingOperator(ExportParameters):
    """Start each export exactly once, record its name, and wait until all have succeeded."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._starter: Starter | None = None
        self._restarted: set[str] = set()  #: The failed operations that the task starts again.
        self._full_since: float | None = None  #: Since when the project's queue has been full, in epoch seconds.
        self.results = Results()  #: The task's operations, as last read.
        self._destination_uris: list[str] = []

    def start_and_wait(self, context: Context, make_exports: Callable[[Starter], Made | Sequence[Wanted]]) -> Any:
        """Start the exports, continue with the last try's operations, wait, and return the function's value.

        :param make_exports: Returns a `Made`, or a list of operations, which is then the value. It may start some with
            the `Starter`. It is not called if the last try has started all operations.
        """
        with self.owned(context):
            asked = self.begin(context)
            if (
                asked is not None and not self.max_restarts
            ):  # Restarts need the requests, which only the function makes.
                self.log.info("Continuing with the last try's operations: %s.", abbreviated(self.operation_names))
                check_value(context, asked.value)
                return self.carry_out(context, asked)
            starter = self.new_starter(context)
            with airflow_errors(), handlers_put_back():
                made = make_exports(starter)
            self.ending.end_unless_own()  # A signal handler of the function may have caught a SIGTERM.
            return self.carry_out(context, self.settle(context, starter, made))

    def begin(self, context: Context) -> Asked | None:
        """Continue with the last try's operations; return that try's `Asked` if it has started all."""
        with airflow_errors():
            self.hook.preload()
            left = left_by_the_last_try(context)
            self.operation_names = names_in(left)  # A kill may come before Earth Engine answers.
            self.knows_operations = True
            how = "cancel" if self.cancel_on_kill else "ignore"
            self.operation_names, asked = resume_started(context, self.hook, left, on_clear=how)
        self.ending.end_if_killed()
        return asked

    def new_starter(self, context: Context, asked: Asked | None = None) -> Starter:
        """Use a new `Starter` in this process. It knows the operations that this try has started or found."""
        forgotten = self._restarted | (asked.set_aside if asked else set())
        account, cancel_on, block = connection_kwargs(self), cancel_on_of(self), self.block or 0
        self._starter = Starter(
            self.hook,
            context,
            lambda started: record_started(context, started, account, self.ownership, cancel_on, block=block),
            known={key: name for key, name in started_by_task(context).items() if name not in forgotten},
            tries=tries_so_far(context, self.max_restarts, is_restart=bool(self._restarted)),
            queue_timeout=self.queue_timeout,
            workload_tag=workload_tag_of(context["ti"].dag_id) if self.workload_tag is None else self.workload_tag,
            priority=self.priority,
            repeats=self.repeats,
        )
        self.ending.end_if_killed()
        return self._starter

    def start_registered(self, starter: Starter) -> Callable[[], None] | None:
        """Return a callable that starts the exports registered by a function; None if exports are not registered."""
        queue = QueueState(self.max_active_operations, self.queue_timeout)
        return partial(start_registered, self.hook, starter, queue, self.wait_options) if self.batch_starts else None

    def settle(self, context: Context, starter: Starter, made: Made | Sequence[Wanted]) -> Asked:
        """Check a function's return value, and return the exports to start and the operations to wait for."""
        left, made = list(self.operation_names), Made.of(made).with_registered(starter.registered.values())
        with airflow_errors():
            starter.check(made.requests)
            starter.flush()
            if not self.ignore_refused_starts:
                starter.raise_for_refused()
            check_value(context, made.value)
            starter.flush(made.adopted)
            self.operation_names = list(dict.fromkeys([*self.operation_names, *made.adopted]))
            asked = all_asked(self.hook, starter, made, left, recorded_with_keys(context, again=True))
        self._check_not_killed(starter)
        EarthEngineOutputLink.persist(context, made.output_url)
        return asked

    def carry_out(self, context: Context, asked: Asked, operations: list[OperationDict] | None = None) -> Any:
        """Start the remaining exports, wait for all, and restart failed ones; here or in another process.

        :param operations: The ended operations, if another process has waited for them; otherwise None.
        """
        while operations is None or self._are_to_restart(context, operations, asked):
            self._start_all(context, asked)
            operations = self._wait(context, asked)
        return self._finish(context, operations, asked)

    def _start_all(self, context: Context, asked: Asked) -> None:
        """Start the remaining exports as there is room. Each name is recorded before the task waits for it.

        :raises TaskDeferred: To wait for room in the triggerer. The task continues in `start_more`.
        """
        starter = self._starter or self.new_starter(context, asked)
        queue = QueueState(self.max_active_operations, self.queue_timeout, full_since=self._full_since)
        filler = QueueFiller(self.hook, starter, asked, queue, self.wait_options)
        with airflow_errors():
            if self.max_active_operations is not None or asked.parts:
                self._check_so_far(context, filler, asked)
            while wait := filler.fill():
                remaining, total, how = filler.unstarted, len(asked.operations), wait.as_trigger_kwargs()
                self.log.info("%s of %s operations are not started yet. %s.", f"{len(remaining):,}", f"{total:,}", wait)
                if self.deferrable and self._is_kept(context, asked, remaining, "max_active_operations"):
                    from airflow_ee_provider.triggers.earth_engine import EarthEngineQueueTrigger

                    self.wait_in_triggerer(context, filler.running, EarthEngineQueueTrigger, method="start_more", **how)
                filler.wait(wait)
                self._check_so_far(context, filler, asked)
        self._check_not_killed(starter)
        self.operation_names = asked.names(started_by_task(context))
        if self.block is None:  # A try calls the code of a task with blocks in any case.
            record_all_started(context, asked)
        persist_links(context, self.hook.account.names(self.operation_names))

    def _check_so_far(self, context: Context, filler: QueueFiller, asked: Asked) -> None:
        """Fail if more operations have failed than ``max_failures``, not counting those that will be restarted."""
        results = Results([operation.as_dict() for operation in filler.read().found])
        again = failed_to_restart(context, results.operations, self.max_restarts, asked.starts)
        options, failures = self.wait_options, len(results.errors) - len(again)
        if options.stop_at_failure and not options.allows(failures, len(asked.operations)):
            self.operation_names = filler.started
            self._check_results(results)

    def _wait(self, context: Context, asked: Asked) -> list[OperationDict]:
        """Wait for the operations, here or in the triggerer; return at once if all have ended."""
        with airflow_errors():
            progress = self.hook.poll_operations(self.operation_names, **self.limits)
            found = progress.found
            if not self.wait_for_completion:
                found = [progress.latest.get(name) or Operation.unread(name) for name in progress.names]
            elif not progress.is_over(self.wait_options):
                if self.deferrable and self._is_kept(context, asked, [], "max_restarts"):
                    from airflow_ee_provider.triggers.earth_engine import EarthEngineOperationsTrigger

                    self.wait_in_triggerer(context, self.operation_names, EarthEngineOperationsTrigger)
                found = self.hook.wait_for_operations(self.operation_names, **self.wait_options.as_kwargs())
        return [operation.as_dict() for operation in found]

    def _are_to_restart(self, context: Context, operations: list[OperationDict], asked: Asked) -> bool:
        """Whether failed operations are to be restarted. If so, `_start_all` treats them as not started."""
        if again := failed_to_restart(context, operations, self.max_restarts, asked.starts):
            self.log.warning("Restarting after transient failures: %s.", abbreviated(again))
            self._restarted = set(again)
            self.new_starter(context, asked)
        return bool(again)

    def _finish(self, context: Context, operations: list[OperationDict], asked: Asked) -> Any:
        """Return the function's value with its operations, unless more than ``max_failures`` have failed."""
        results, started = Results(operations), started_by_task(context, at_end=True)
        self.ending.end_if_cancelled()
        measure_ended(operations, self.ending.dag_id)
        self._check_results(results)
        self._destination_uris = results.destination_uris
        results.publish(context, self.outlets, self.log, as_xcoms=self.do_xcom_push)
        let_go(context, asked)
        with airflow_errors():
            return results.value_of(self.hook, asked, started)

    def _check_results(self, results: Results) -> None:
        """Log how operations ended; fail if more than ``max_failures`` failed. `Ending.on_end` cancels the others."""
        self.ending.end_if_cancelled()
        self.results = results
        results.log_and_check(len(self.operation_names), self.wait_options, self.log)

    def _check_not_killed(self, starter: Starter) -> None:
        if starter.stopped:
            raise AirflowException(f"{self.task_id} was killed; remaining exports were not started.")

    def _is_kept(self, context: Context, asked: Asked, needed: list[Start], parameter: str) -> bool:
        """Store this try's `Asked`; return whether another process can continue with it and start the rest."""
        return keep(context, asked, asked.starts if self.max_restarts else needed, self.log, parameter)

    def _kept(self, context: Context) -> Asked:
        """Return the `Asked` that another process of this try has stored."""
        asked = kept(context, {} if self.max_restarts else started_by_task(context))
        self.new_starter(context, asked)
        self.operation_names = asked.names(started_by_task(context))
        self.knows_operations = True
        return asked

    def start_more(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Continue to start exports after a wait for room in the triggerer."""
        with self.owned(context):
            if not waits_itself(self, event):
                result_or_raise(event)
            self._full_since = event.get("since")
            return self.carry_out(context, self._kept(context))

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Return the function's value with its operations, or raise the trigger's error."""
        with self.owned(context):
            operations = None if waits_itself(self, event) else result_or_raise(event)
            return self.carry_out(context, self._kept(context), operations)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume the task. If the trigger itself failed and no next try follows, cancel the exports."""
        has_failed = next_method == "__fail__" and not trigger_timed_out(next_method, next_kwargs)
        with self.owned(context) if has_failed else nullcontext():
            return super().resume_execution(next_method, next_kwargs, context)

    @contextmanager
    def owned(self, context: Context) -> Iterator[None]:
        """Handle a kill, a timeout or an interrupt, and raise the same exception again: Airflow decides by it."""
        try:
            with cancelling_on_ctrl_c(self.ending):
                yield
        except TaskDeferred:
            raise
        except BaseException as error:
            has_timed_out = isinstance(error, AirflowTaskTimeout)
            if has_timed_out:
                self.ending.on_timeout(error)
            self.stop()
            if self._starter:
                self._starter.record_what_it_can()
            if not has_timed_out:
                self.ending.on_failure(error)
            raise

    def left_by_the_last_try(self, context: Context) -> list[str]:
        """Return an earlier try's operations that this try has not recorded yet."""
        return names_in(left_by_the_last_try(context))

    def stop(self) -> None:
        """Start no more operations."""
        if self._starter:
            self._starter.stop()

    def cancel_late_starts(self) -> None:
        """Also cancel each operation whose start Earth Engine answers from now on."""
        if self._starter:
            self._starter.cancel_late_starts()

    @property
    def runs_on_after_task(self) -> bool:
        """Whether the operations keep running after the task, as long as its DAG run has not failed."""
        return not self.wait_for_completion

    @property
    def own_operations(self) -> list[str]:
        """The task's operations that are not known to have ended."""
        started = list(self._starter.started) if self._starter else []
        ended = {operation["name"] for operation in self.results.ended}
        return [name for name in dict.fromkeys([*self.operation_names, *started]) if name not in ended]

    @property
    def all_operations(self) -> set[str]:
        """All operations of which this process knows whether they have ended."""
        return {*self.operation_names, *(self._starter.started if self._starter else ()), *self.results.names}

    @property
    def own_starts(self) -> list[Start]:
        """Starts that Earth Engine has not answered yet."""
        return self._starter.in_flight if self._starter else []

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return the exports' outputs for OpenLineage, if it is installed."""
        return operator_lineage(self._destination_uris)
