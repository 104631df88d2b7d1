"""``@task.earth_engine``: exports written with the official client, ``earthengine-api``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from inspect import Parameter, Signature, isawaitable, signature
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_ee_provider.exports.exporting import ExportingOperator
from airflow_ee_provider.exports.parameters import ExportParameters
from airflow_ee_provider.exports.requested import Made

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context, TaskDecorator

    from airflow_ee_provider.exports.starter import Starter


class _EarthEngineDecoratedOperator(DecoratedOperator, ExportingOperator):
    """Calls a function with ``ee`` initialised, and owns what it starts or returns; see `earth_engine_task`."""

    template_fields: Sequence[str] = ("op_args", "op_kwargs", *ExportingOperator.template_fields)
    custom_operator_name = "@task.earth_engine"

    def execute(self, context: Context) -> Any:
        """Call the function, record the operations that it starts, wait for them, and return its value."""
        context_merge(context, self.op_kwargs)
        return self.start_and_wait(context, lambda starter: self._made(context, starter))

    def _made(self, context: Context, starter: Starter) -> Made:
        from airflow_ee_provider.earth_engine.ee_client.objects import read_value
        from airflow_ee_provider.earth_engine.ee_client.session import ee_session

        with ee_session(self.hook.account, starter, self.log, self.start_registered(starter)) as client:
            kwargs = determine_kwargs(self.python_callable, self.op_args, context)
            returned = self.python_callable(*self.op_args, **kwargs)
            if isawaitable(returned):
                returned = asyncio.run(_awaited(returned))
            client.function_returned()
            if self.multiple_outputs and not isinstance(returned, Mapping):
                raise AirflowFailException(
                    f"The function returned {type(returned).__name__}, but multiple_outputs needs a dict."
                )
            own = {*starter.started, *self.operation_names}
            made = read_value(returned, client.project, own, client.registered_start_of)
            if client.project != self.hook.account.project:
                self.log.info("The function set the project to %s; its exports run there.", client.project)
        return Made(*made)


def _full_signature() -> Signature:
    """Return a signature with every parameter, for ``help()`` and the documents."""
    first, *rest = signature(_earth_engine_task).parameters.values()
    multiple = Parameter("multiple_outputs", Parameter.KEYWORD_ONLY, default=None, annotation="bool | None")
    own = [one for one in signature(ExportParameters.__init__).parameters.values() if one.kind is one.KEYWORD_ONLY]
    return Signature([first, multiple, *own, *rest], return_annotation="TaskDecorator")


async def _awaited(returned: Awaitable[Any]) -> Any:
    return await returned


def _earth_engine_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Make a task of a function that creates or starts exports. It needs the extra ``earthengine``.

    Each try calls the function once, with ``ee`` initialised from the Airflow connection. The function can be a
    coroutine. The task owns each operation that the function starts (``task.start()``, ``ee.data.exportImage(…)``,
    ``ee.data.startIngestion(…)``, a library's helper), from the start request on. It also owns the operations in the
    returned value: ``ee.batch.Task`` objects, started or not; names or ids of operations; dicts of operations that the
    function started. The task starts each export exactly once, also after a crash, if the function creates the same
    exports in each try. Exports of an earlier try stay with the task.

    When all operations have succeeded, the task returns the function's value, with an `OperationDict` in place of each
    operation. The XComs ``operations`` and ``operation_names`` contain all operations.

    If Earth Engine refuses a start, the task fails at the end of the function, even if the function caught the error,
    unless the same start succeeds later or ``ignore_refused_starts`` is set. An operation that the function itself
    cancels is no failure. Nor is one that failed before the function started another one in its place.

    :param python_callable: The function. Airflow passes context variables for parameters with their names.
    :param multiple_outputs: Push each key of the returned dict as a separate XCom.
    :param earth_engine_conn_id: The connection to Earth Engine; None for Application Default Credentials (templated).
    :param project_id: The Cloud project that runs the exports. By default the connection's project (templated).
    :param impersonation_chain: One service account to impersonate, or a chain of them; the last one calls Earth Engine
        (templated).
    :param workload_tag: The tag under which Cloud Monitoring reports the cost of exports that have no tag of their own.
        By default made from the DAG's id; an empty string sets none (templated).
    :param priority: The priority of exports that have none of their own, 0 to 9999; Earth Engine's default is 100. For
        paid projects only (templated).
    :param wait_for_completion: Wait until the exports have ended. If False, the task returns once they are started
        (templated).
    :param poll_interval: Maximum time between two polls, in seconds or as a timedelta; at least 1 second (templated).
    :param max_eecu_seconds: EECU-seconds that each export may use. An export that uses more is cancelled, and the task
        fails. None for no limit (templated).
    :param max_total_eecu_seconds: EECU-seconds that all exports may use together. When they have used more, those that
        still run are cancelled, and the task fails. None for no limit (templated).
    :param max_failures: How many exports may fail without failing the task: a whole number, or a share below 1
        (templated).
    :param max_restarts: How many times to restart an export after a transient failure, in each try of the task
        (templated).
    :param max_active_operations: Maximum number of queued and running exports of this task, so that the project's queue
        has room for others. None for as many as the queue takes (templated).
    :param queue_timeout: Fail the task, which Airflow may retry, if no export could be started for this long because
        the project's queue was full; in seconds or as a timedelta. None to wait without limit (templated).
    :param cancel_on_kill: Cancel the exports when the task is cleared or marked, or when its DAG run times out
        (templated).
    :param cancel_on_timeout: Cancel the exports when ``execution_timeout`` passes, counted from the task's start
        (templated).
    :param cancel_on_failure: Cancel the remaining exports when more than ``max_failures`` have failed, or when the task
        fails without further retries (templated).
    :param stop_at_failure: Fail as soon as more than ``max_failures`` exports have failed. If False, wait for the other
        exports first. By default the same as ``cancel_on_failure`` (templated).
    :param ignore_refused_starts: Do not fail the task for a start that the function made itself and Earth Engine
        refused: the function handles it (templated).
    :param batch_starts: Send the function's starts (``task.start()``) in parallel after it has returned, like those of
        the exports that it returns: within ``max_active_operations``, up to 32 at once. An ``ee.batch.Task`` has no id
        until then. If the function reads an id or a status, or lists operations, it waits until all its operations so
        far are started (templated).
    :param deferrable: Wait in the triggerer. By default the value of ``[operators] default_deferrable``.
    :param kwargs: The parameters of all Airflow tasks, for example ``retries``.
    :raises AirflowFailException: If a retry cannot succeed: an export failed or is invalid, or the function returned a
        value that XCom cannot store.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_EarthEngineDecoratedOperator, **kwargs
    )


if TYPE_CHECKING:

    def earth_engine_task(
        python_callable: Callable[..., Any] | None = None,
        *,
        multiple_outputs: bool | None = None,
        earth_engine_conn_id: str | None = "earth_engine_default",
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        workload_tag: str | None = None,
        priority: int | str | None = None,
        wait_for_completion: bool | str = True,
        poll_interval: float | timedelta | str = 30.0,
        max_eecu_seconds: float | str | None = None,
        max_total_eecu_seconds: float | str | None = None,
        max_failures: float | str = 0,
        max_restarts: int | str = 0,
        max_active_operations: int | str | None = None,
        queue_timeout: float | timedelta | str | None = None,
        cancel_on_kill: bool | str = True,
        cancel_on_timeout: bool | str = True,
        cancel_on_failure: bool | str = True,
        stop_at_failure: bool | str | None = None,
        ignore_refused_starts: bool | str = False,
        batch_starts: bool | str = False,
        deferrable: bool = ...,
        **kwargs: Any,
    ) -> TaskDecorator:
        """See `_earth_engine_task`."""
        raise NotImplementedError

else:
    # Parameters that are not given must not be passed on, or a DAG's default_args would have no effect.
    earth_engine_task = _earth_engine_task
    earth_engine_task.__signature__ = _full_signature()
