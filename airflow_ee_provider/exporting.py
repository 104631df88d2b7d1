"""What starts exports and owns them to their end: the export operator and ``@task.earth_engine`` alike."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseOperator,
    conf,
)

from airflow_ee_provider.earth_engine.destinations import output_url
from airflow_ee_provider.earth_engine.operations import OperationName
from airflow_ee_provider.earth_engine.starting import Export, check_export, workload_tag_of
from airflow_ee_provider.holders import WaitingHolder
from airflow_ee_provider.lineage import announce, operator_lineage
from airflow_ee_provider.links.earth_engine import EarthEngineOutputLink, EarthEngineTasksLink
from airflow_ee_provider.records import record_all_started, record_operations, resume_started, tries_since_clear
from airflow_ee_provider.tasks import (
    HOOK_PARAMETERS,
    airflow_errors,
    airflow_exception,
    clean_up,
    result_of,
    timed_out,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context


class ExportingOperator(WaitingHolder, BaseOperator):
    """
    Start exports exactly once each, write their names down, and wait until all have succeeded.

    :param earth_engine_conn_id: the connection (templated).
    :param project_id: the Cloud project that runs the exports, in place of the connection's (templated).
    :param impersonation_chain: service accounts, the last of which calls Earth Engine (templated).
    :param workload_tag: under which Cloud Monitoring shows their costs, where an export has none of its own
        (templated); by default made of the DAG's id, empty for none.
    :param priority: 0 to 9999, where an export has none of its own; 100 for Earth Engine. For paid projects only.
    :param wait_for_completion: wait for the end; otherwise the operations are returned as they were started.
    :param poll_interval: seconds between two polls.
    :param max_eecu_seconds: EECU-seconds that each may use before it is cancelled; None for no limit.
    :param cancel_on_kill: cancel when the task is cleared or marked, its DAG run times out, or its
        ``execution_timeout`` passes in a worker.
    :param cancel_on_timeout: cancel when the ``execution_timeout`` passes while the task is deferred.
    :param cancel_on_failure: cancel the others when one of them fails; otherwise they are waited for.
    :param deferrable: wait in the triggerer; by default as ``[operators] default_deferrable`` says.
    """

    template_fields: Sequence[str] = ("workload_tag", *HOOK_PARAMETERS)
    operator_extra_links = (EarthEngineTasksLink(), EarthEngineOutputLink())
    ui_color = "#d9ead3"

    def __init__(
        self,
        *,
        earth_engine_conn_id: str | None = "earth_engine_default",
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        workload_tag: str | None = None,
        priority: int | None = None,
        wait_for_completion: bool = True,
        poll_interval: float = 30.0,
        max_eecu_seconds: float | None = None,
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
        self.priority = priority
        self.wait_for_completion = wait_for_completion
        self.poll_interval = poll_interval
        self.max_eecu_seconds = max_eecu_seconds
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.cancel_on_failure = self.stop_at_failure = cancel_on_failure
        self.deferrable = deferrable
        self.operation_names: list[str] = []
        self._being_started: tuple[Any, ...] = ()
        self._destination_uris: list[str] = []

    def own(
        self, context: Context, make_exports: Callable[[], Sequence[Export | OperationName]]
    ) -> list[dict[str, Any]]:
        """Start the exports, or go on with what the last try has started, and wait.

        :param make_exports: called unless all that it would make is known to be started.
        """
        with airflow_errors():
            self.operation_names, complete = resume_started(
                context, self.hook, on_clear="cancel" if self.cancel_on_kill else "ignore"
            )
        if complete:
            self.log.info("Going on with what the last try has started: %s.", self.operation_names)
            self._persist_links(context)
        else:
            self._start_all(context, make_exports)
        with self._failure_cancels(context):
            found = self._look(timeout=0.0)
        if not self.wait_for_completion or all(operation["done"] for operation in found):
            return self._conclude(context, found)
        if self.deferrable:
            self.wait_in_triggerer(self.operation_names, self.poll_interval)
        try:
            with self._failure_cancels(context):
                found = self._look()
        except AirflowTaskTimeout as error:
            if not self.cancel_on_kill:  # Airflow calls `on_kill` then.
                self.on_timeout(error)
            raise
        return self._conclude(context, found)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the operations, or fail as they did."""
        with self._failure_cancels(context):
            found = result_of(event)
        return self._conclude(context, found)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Cancel as well where the trigger itself has failed, and no next try goes on with the exports."""
        if next_method != "__fail__" or timed_out(next_method, next_kwargs):
            return super().resume_execution(next_method, next_kwargs, context)
        with self._failure_cancels(context):
            return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Cancel, also what Earth Engine may have started although its answer was not here yet."""
        if self.cancel_on_kill and self._being_started:
            with clean_up(self.log):
                # The same request again: it names the operation, whether or not the first one came through.
                operation = self.hook.start_export_once(*self._being_started)
                self.operation_names = [*self.operation_names, str(operation.name)]
        super().on_kill()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Tell OpenLineage, where it is installed, what was written."""
        return operator_lineage(self._destination_uris)

    def _start_all(self, context: Context, make_exports: Callable[[], Sequence[Export | OperationName]]) -> None:
        ti, left = context["ti"], self.operation_names
        # What the tries of a task instance have in common: all but its clears, which change `max_tries`.
        identity = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}/{ti.max_tries}"
        try:
            with airflow_errors():
                exports = self._checked(make_exports(), ti.dag_id)
                names = [self._start(context, export, f"{identity}/{i}") for i, export in enumerate(exports)]
        except Exception as error:
            if _is_final(error, ti) and self.cancel_on_failure and self.operation_names:
                self.cancel_now(f"{self.task_id} could not start all of its exports")
            raise
        record_all_started(context, names)
        self._persist_links(context, *exports)
        if orphans := [name for name in left if name not in names]:
            self.log.warning("Cancelling what the last try has started and this one has not: %s.", orphans)
            self._cancelled(orphans)
        self.operation_names = names

    def _persist_links(self, context: Context, *exports: Export | OperationName) -> None:
        """Let the links lead to the first export, from now on."""
        EarthEngineTasksLink.persist_for(context, self.hook.account.names(self.operation_names))
        urls = [output_url(export.body) for export in exports if isinstance(export, Export)]
        EarthEngineOutputLink.persist(context, urls[0] if urls else "")

    def _checked(self, exports: Sequence[Export | OperationName], dag_id: str) -> list[Export | OperationName]:
        """Complete the exports, and refuse what cannot be right before any is started."""
        if not exports:
            raise AirflowSkipException(f"{self.task_id} has made no export: there is nothing to do.")
        tag = workload_tag_of(dag_id) if self.workload_tag is None else self.workload_tag
        checked: list[Export | OperationName] = []
        for export in exports:
            if isinstance(export, OperationName):
                checked.append(export)
                continue
            complete = export.with_defaults(tag or None, self.priority)
            check_export(complete)
            checked.append(complete)
        return checked

    def _start(self, context: Context, export: Export | OperationName, identity: str) -> str:
        """Start one export, or find it started, and write its name down before anything else."""
        if isinstance(export, OperationName):
            name = export
        else:
            self._being_started = (export.kind, export.body, identity, tries_since_clear(context))
            name = self.hook.start_export_once(*self._being_started).name
        if str(name) not in self.operation_names:
            self.operation_names = [*self.operation_names, str(name)]
        self._being_started = ()
        record_operations(context, name)
        return str(name)

    def _look(self, timeout: float | None = None) -> list[dict[str, Any]]:
        with airflow_errors():
            found = self.hook.wait_for_operations(
                self.operation_names,
                poll_interval=self.poll_interval,
                timeout=timeout,
                stop_at_failure=self.stop_at_failure,
                max_eecu_seconds=self.max_eecu_seconds,
            )
        return [operation.as_dict() for operation in found]

    def _conclude(self, context: Context, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the operations if none has failed; otherwise cancel the others, and name each.

        :raises AirflowFailException: with what became of every one.
        """
        lines = [_line(operation) for operation in operations if operation["done"]]
        for line in lines:
            self.log.info("%s", line)
        if failed := sum(1 for operation in operations if operation["error"]):
            ended = {operation["name"] for operation in operations if operation["done"]}
            if others := [name for name in self.operation_names if name not in ended]:
                lines += self._cancelled(others)
            raise AirflowFailException(
                f"{failed} of {len(self.operation_names)} exports did not succeed:\n  " + "\n  ".join(lines)
            )
        self._destination_uris = [uri for operation in operations for uri in operation["destination_uris"]]
        if self._destination_uris:
            EarthEngineOutputLink.persist(context, self._destination_uris[0])
            announce(context, self.outlets, self._destination_uris)
        return operations

    @contextmanager
    def _failure_cancels(self, context: Context) -> Iterator[None]:
        """Cancel the exports when the waiting for them fails for good."""
        try:
            yield
        except AirflowException as error:
            if self.cancel_on_failure and _is_final(error, context["ti"]):
                lines = self._cancelled(self.operation_names)
                raise airflow_exception(
                    "\n  ".join([str(error), *lines]), permanent=isinstance(error, AirflowFailException)
                ) from error
            raise

    def _cancelled(self, names: Sequence[str]) -> list[str]:
        """Cancel, and return a line on what became of each."""
        return self.cancelled(names) or [f"{name}: it could not be cancelled, and may still run" for name in names]


def _is_final(error: Exception, ti: Any) -> bool:
    """Whether no other try follows; otherwise, what was started stays for that one to find."""
    return isinstance(error, (AirflowFailException, AirflowSkipException)) or bool(ti.try_number > ti.max_tries)


def _line(operation: Mapping[str, Any]) -> str:
    """Say in one line how an operation has ended."""
    parts = [f"{operation['name']}: {operation['state']}"]
    if error := operation["error"]:
        parts.append(f"code {error['code']}: {error['message']}")
    if operation["duration"] is not None:
        parts.append(f"{operation['duration']:.0f} s")
    if operation["batch_eecu_usage_seconds"]:
        parts.append(f"{operation['batch_eecu_usage_seconds']:g} EECU-seconds")
    return ", ".join(parts) + "".join(f" → {uri}" for uri in operation["destination_uris"])
