"""What starts exports and owns them to their end: the export operator and ``@task.earth_engine`` alike."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseOperator,
    TaskDeferred,
    conf,
)

from airflow_ee_provider.airflow_versions import threads_may_ask_airflow, trigger_timed_out
from airflow_ee_provider.earth_engine.destinations import console_url_of, link_to
from airflow_ee_provider.earth_engine.failures import can_pass
from airflow_ee_provider.earth_engine.flows.starting import Export, check_export, with_defaults, workload_tag_of
from airflow_ee_provider.earth_engine.flows.waiting import WaitOptions
from airflow_ee_provider.earth_engine.operation_names import OperationName
from airflow_ee_provider.earth_engine.operations import Operation, OperationError, OperationState, all_done
from airflow_ee_provider.links.earth_engine import EarthEngineOutputLink, EarthEngineTasksLink
from airflow_ee_provider.tasks import parameters
from airflow_ee_provider.tasks.clean_up import account_of, airflow_errors, airflow_exception, result_or_raise
from airflow_ee_provider.tasks.lineage import add_outlet_assets, operator_lineage
from airflow_ee_provider.tasks.record_format import ACCOUNT_PARAMETERS
from airflow_ee_provider.tasks.records import record_all_started, record_operations, resume_started
from airflow_ee_provider.tasks.starter import Starter
from airflow_ee_provider.tasks.waiting_task import WaitingTask, cancel_and_describe, line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context


class ExportingOperator(WaitingTask, BaseOperator):
    """
    Start exports exactly once each, write their names down, and wait until all have succeeded.

    :param earth_engine_conn_id: the connection (templated).
    :param project_id: the Cloud project that runs the exports, in place of the connection's (templated).
    :param impersonation_chain: service accounts, the last of which calls Earth Engine (templated).
    :param workload_tag: under which Cloud Monitoring shows their costs, where an export has none of its own
        (templated); by default made of the DAG's id, empty for none.
    :param priority: 0 to 9999, where an export has none of its own; 100 for Earth Engine. For paid projects only
        (templated).
    :param wait_for_completion: wait for the end; otherwise the operations are returned as they were started.
    :param poll_interval: between two polls, in seconds or as a timedelta (templated).
    :param max_eecu_seconds: EECU-seconds that each may use before it is cancelled; None for no limit (templated).
    :param cancel_on_kill: cancel when the task is cleared or marked, or its DAG run times out.
    :param cancel_on_timeout: cancel when the ``execution_timeout`` passes, which counts from the task's start.
    :param cancel_on_failure: cancel what is left when one of them fails, or when the task fails for good in any other
        way; otherwise the others are waited for.
    :param deferrable: wait in the triggerer; by default as ``[operators] default_deferrable`` says.
    """

    template_fields: Sequence[str] = (
        "workload_tag",
        "priority",
        "poll_interval",
        "max_eecu_seconds",
        *ACCOUNT_PARAMETERS,
    )
    checked_parameters = (
        parameters.Seconds("poll_interval"),
        parameters.Number("max_eecu_seconds", is_optional=True),
        parameters.Whole("priority", is_optional=True, most=9999),
    )
    operator_extra_links = (EarthEngineTasksLink(), EarthEngineOutputLink())
    ui_color = "#d9ead3"

    def __init__(
        self,
        *,
        earth_engine_conn_id: str | None = "earth_engine_default",
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        workload_tag: str | None = None,
        priority: int | str | None = None,
        wait_for_completion: bool = True,
        poll_interval: float | timedelta | str = 30.0,
        max_eecu_seconds: float | str | None = None,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        cancel_on_failure: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.earth_engine_conn_id = earth_engine_conn_id
        self.project_id = project_id
        self.impersonation_chain = impersonation_chain
        self.workload_tag = workload_tag
        self.priority: Any = priority
        self.wait_for_completion = wait_for_completion
        self.poll_interval: Any = poll_interval
        self.max_eecu_seconds: Any = max_eecu_seconds
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.cancel_on_failure = cancel_on_failure
        self.deferrable = deferrable
        self.operation_names: list[str] = []
        self._starter: Starter | None = None
        self._ended: set[str] = set()
        self._is_killed = False
        self._destination_uris: list[str] = []
        parameters.check(self, self.checked_parameters)

    def pre_execute(self, context: Context) -> None:
        """Have in the process what a kill needs, and check what was rendered, before anything is sent."""
        super().pre_execute(context)
        parameters.check_rendered(self, self.checked_parameters)

    @property
    def wait_options(self) -> WaitOptions:
        """How this task waits."""
        return WaitOptions(self.poll_interval, self.cancel_on_failure, self.max_eecu_seconds)

    def start_and_wait(
        self, context: Context, make_exports: Callable[[Starter], Sequence[Export | OperationName]]
    ) -> list[dict[str, Any]]:
        """Start the exports, or go on with what the last try has started, and wait.

        :param make_exports: returns what is to be started, and may start some of it by itself with the `Starter` that
            it is given; called unless all is known to be started.
        """
        with self._owned(context):
            with airflow_errors():
                self.hook.make_ready()
                self.operation_names, complete = resume_started(
                    context, self.hook, on_clear="cancel" if self.cancel_on_kill else "ignore"
                )
            self._end_if_killed()
            if complete:
                self.log.info("Going on with what the last try has started: %s.", self.operation_names)
                self._persist_links(context)
            else:
                self._start_all(context, make_exports)
            found = self._poll(timeout=0.0)
            names = self.hook.account.names(self.operation_names)
            if not self.wait_for_completion:
                return self._finish(
                    context, [_as_started(name) for name in names if name not in found] + [*found.values()]
                )
            if not all_done(names, list(found.values())) and not self._has_failed(found.values()):
                if self.deferrable:
                    self.wait_in_triggerer(context, self.operation_names)
                found = self._poll()
            return self._finish(context, list(found.values()))

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the operations, or fail as they did."""
        with self._owned(context):
            return self._finish_event(context, result_or_raise(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Cancel as well where the trigger itself has failed, and no next try goes on with the exports."""
        if next_method != "__fail__" or trigger_timed_out(next_method, next_kwargs):
            return super().resume_execution(next_method, next_kwargs, context)
        with self._owned(context):
            return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Start nothing more, and cancel, also what Earth Engine may have started although its answer is not here."""
        self._is_killed = True
        if not self._is_deferred and not self._is_timed_out:
            self.operation_names = self._held()
        super().on_kill()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Tell OpenLineage, where it is installed, what was written."""
        return operator_lineage(self._destination_uris)

    @contextmanager
    def _owned(self, context: Context) -> Iterator[None]:
        """Cancel the exports when the task ends for good without having waited for them, whatever ends it."""
        try:
            yield
        except TaskDeferred:
            raise
        except AirflowTaskTimeout as error:
            self.operation_names = self._held()
            self.on_timeout(error)
            raise
        except BaseException as error:
            if self._is_killed or not (self.cancel_on_failure and _is_final(error, context["ti"])):
                raise
            lines = self._cancel_and_describe(names) if (names := self._held()) else []
            if not (lines and isinstance(error, AirflowException)):
                raise
            told = "\n  ".join([str(error), *lines])
            raise airflow_exception(told, permanent=isinstance(error, AirflowFailException)) from error

    def _held(self) -> list[str]:
        """Start nothing more; return what this task holds, and has not seen end."""
        started = [*self._starter.started, *self._starter.stop()] if self._starter else []
        return [name for name in dict.fromkeys([*self.operation_names, *started]) if name not in self._ended]

    def _start_all(self, context: Context, make_exports: Callable[[Starter], Sequence[Export | OperationName]]) -> None:
        left, dag_id = self.operation_names, context["ti"].dag_id
        tag = workload_tag_of(dag_id) if self.workload_tag is None else self.workload_tag
        unrecorded: list[str] = []

        def record(name: str) -> None:
            if threading.current_thread() is threading.main_thread() or threads_may_ask_airflow():
                record_operations(context, name, **account_of(self))
            else:
                unrecorded.append(name)

        starter = self._starter = Starter(self.hook, context, record, workload_tag=tag, priority=self.priority)
        self._end_if_killed()
        with airflow_errors():
            exports = make_exports(starter)
            for export in exports:
                if isinstance(export, Export):
                    check_export(Export(export.kind, with_defaults(export.body, tag, self.priority)))
            if unrecorded:
                record_operations(context, unrecorded, **account_of(self))
            names = [self._start(context, starter, export) for export in exports]
            starter.check_refusals()
        names = list(dict.fromkeys([*starter.started, *names]))
        if starter.stopped:
            raise AirflowException(f"{self.task_id} was killed: nothing more is started.")
        if not names:
            raise AirflowSkipException(f"{self.task_id} has made no export: there is nothing to do.")
        record_all_started(context)
        self.operation_names = names
        self._persist_links(context, *exports)
        if orphans := [name for name in left if name not in names]:
            self.log.warning("Cancelling what the last try has started and this one has not: %s.", orphans)
            self._cancel_and_describe(orphans)

    def _end_if_killed(self) -> None:
        """Cancel what the last try has left, if a kill came before that was known or could be stopped."""
        if self._is_killed:
            if self.operation_names:
                self.cancel_own(f"{self.task_id} was killed")
            raise AirflowException(f"{self.task_id} was killed before it has started anything.")

    def _start(self, context: Context, starter: Starter, export: Export | OperationName) -> str:
        """Start one export, or adopt an operation, and write its name down before anything else."""
        if isinstance(export, OperationName):
            record_operations(context, export, **account_of(self))
            name = str(export)
        else:
            name = str(starter.start(starter.plan(export.method, export.body, export.project)).name)
        if name not in self.operation_names:
            self.operation_names = [*self.operation_names, name]
        return name

    def _persist_links(self, context: Context, *exports: Export | OperationName) -> None:
        """Let the links lead to the first export, from now on."""
        EarthEngineTasksLink.persist_for(context, self.hook.account.names(self.operation_names))
        urls = [console_url_of(export.body) for export in exports if isinstance(export, Export)]
        EarthEngineOutputLink.persist(context, urls[0] if urls else "")

    def _poll(self, timeout: float | None = None) -> dict[OperationName, Operation]:
        """Read the operations until they have ended; those that could not be read in time are not in the answer."""
        with airflow_errors():
            found = self.hook.wait_for_operations(
                self.operation_names, timeout=timeout, **self.wait_options.as_kwargs()
            )
        return {operation.name: operation for operation in found}

    def _has_failed(self, operations: Iterable[Operation]) -> bool:
        return self.cancel_on_failure and any(operation.done and not operation.succeeded for operation in operations)

    def _finish(self, context: Context, operations: Sequence[Operation]) -> list[dict[str, Any]]:
        return self._finish_event(context, [operation.as_dict() for operation in operations])

    def _finish_event(self, context: Context, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the operations if none has failed.

        :raises AirflowFailException: with what became of each; `_owned` cancels the others.
        :raises AirflowException: the same, if starting what has failed again may help.
        """
        self._ended = {operation["name"] for operation in operations if operation["done"]}
        lines = [line_of(operation) for operation in operations if operation["done"]]
        for line in lines:
            self.log.info("%s", line)
        if errors := [operation["error"] for operation in operations if operation["error"]]:
            raise airflow_exception(
                f"{len(errors)} of {len(self.operation_names)} exports did not succeed:\n  " + "\n  ".join(lines),
                permanent=not all(can_pass(OperationError(error["code"], error["message"])) for error in errors),
            )
        self._destination_uris = [uri for operation in operations for uri in operation["destination_uris"]]
        if self._destination_uris:
            EarthEngineOutputLink.persist(context, link_to(self._destination_uris[0]))
            add_outlet_assets(context, self.outlets, self._destination_uris, self.log)
        return operations

    def _cancel_and_describe(self, names: Sequence[str]) -> list[str]:
        """Cancel, and return a line on what became of each."""
        return cancel_and_describe(self, names) or [
            f"{name}: it could not be cancelled, and may still run" for name in names
        ]


def _as_started(name: OperationName) -> Operation:
    """Stand for an operation that was started and could not be read yet."""
    return Operation(name, OperationState.STATE_UNSPECIFIED, done=False)


def _is_final(error: BaseException, ti: Any) -> bool:
    """Whether no other try follows; otherwise, what was started stays for that one to find."""
    return isinstance(error, (AirflowFailException, AirflowSkipException)) or bool(ti.try_number > ti.max_tries)
