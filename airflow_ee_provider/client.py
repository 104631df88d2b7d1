"""``ee`` in any task: a plain ``@task``, a PythonOperator, your own operator."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import get_current_context

from airflow_ee_provider.base.errors import airflow_errors
from airflow_ee_provider.exports.blocks import Block, Blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import OperationDict

__all__ = ["StartedOperations", "earth_engine"]


class StartedOperations:
    """The operations that a block of `earth_engine` started; complete once the block has ended."""

    def __init__(self) -> None:
        #: Each operation at the end of the block; with ``wait_for_completion``, it has ended by then.
        self.operations: list[OperationDict] = []

    @property
    def operation_names(self) -> list[str]:
        """The names of the operations, for example for a sensor."""
        return [operation["name"] for operation in self.operations]


@contextmanager
def earth_engine(
    context: Context | None = None,
    *,
    wait_for_completion: bool = False,
    earth_engine_conn_id: str | None = "earth_engine_default",
    project_id: str | None = None,
    impersonation_chain: str | Sequence[str] | None = None,
    workload_tag: str | None = None,
    priority: int | str | None = None,
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
) -> Iterator[StartedOperations]:
    """
    Initialise ``ee`` from the Airflow connection within a ``with`` block, in any task.

    The task owns each operation that the block starts (``task.start()``, a library's helper): it records the operation,
    and cancels it if the task is killed while the block runs, or if the block raises and the task has no further try.
    A further try finds the operation. Each is started exactly once, as in ``@task.earth_engine``. If Earth Engine
    refuses a start, the block raises at its end, unless ``ignore_refused_starts`` is set.

    The block must run in the task's own process, not in a notebook's kernel.

    :param context: The task's context. By default the context of the current task.
    :param wait_for_completion: Wait in the worker until all operations have succeeded. If False, they keep running
        after the block.
    :param earth_engine_conn_id: The connection to Earth Engine; None for Application Default Credentials.
    :param project_id: The Cloud project that runs the exports. By default the connection's project.
    :param impersonation_chain: One service account to impersonate, or a chain of them; the last one calls Earth Engine.
    :param workload_tag: The tag under which Cloud Monitoring reports the cost of exports that have no tag of their own.
        By default made from the DAG's id; an empty string sets none.
    :param priority: The priority of exports that have none of their own, 0 to 9999; Earth Engine's default is 100. For
        paid projects only.
    :param poll_interval: Maximum time between two polls, in seconds or as a timedelta; at least 1 second.
    :param max_eecu_seconds: EECU-seconds that each export may use. An export that uses more is cancelled, and the task
        fails. None for no limit.
    :param max_total_eecu_seconds: EECU-seconds that all exports may use together. When they have used more, those that
        still run are cancelled, and the task fails. None for no limit.
    :param max_failures: How many exports may fail without failing the task: a whole number, or a share below 1.
    :param max_restarts: How many times to restart an export after a transient failure, in each try of the task.
    :param max_active_operations: Maximum number of queued and running exports of this task, so that the project's queue
        has room for others. None for as many as the queue takes.
    :param queue_timeout: Fail the task, which Airflow may retry, if no export could be started for this long because
        the project's queue was full; in seconds or as a timedelta. None to wait without limit.
    :param cancel_on_kill: Cancel the exports when the task is cleared or marked, or when its DAG run times out.
    :param cancel_on_timeout: Cancel the exports when ``execution_timeout`` passes, counted from the task's start.
    :param cancel_on_failure: Cancel the remaining exports when more than ``max_failures`` have failed, or when the task
        fails without further retries.
    :param stop_at_failure: Fail as soon as more than ``max_failures`` exports have failed. If False, wait for the other
        exports first. By default the same as ``cancel_on_failure``.
    :param ignore_refused_starts: Do not fail the task for a start that the function made itself and Earth Engine
        refused: the function handles it.
    :param batch_starts: Send the block's starts (``task.start()``) in parallel at its end, within
        ``max_active_operations``, up to 32 at once. An ``ee.batch.Task`` has no id until then. If the block reads an id
        or a status, or lists operations, it waits until all its operations so far are started.
    """
    parameters = {name: value for name, value in locals().items() if name not in ("context", "wait_for_completion")}
    current: Any = get_current_context() if context is None else context
    task = getattr(current["ti"], "task", None)
    owner = Block(
        of_try=Blocks.of(current["ti"]),
        task_id=current["ti"].task_id,
        wait_for_completion=wait_for_completion,
        deferrable=False,
        execution_timeout=getattr(task, "execution_timeout", None),
        **parameters,
    )
    started = StartedOperations()
    with _cancelling_on_kill(task, owner):
        owner.pre_execute(current)
        yield from _own(owner, current, started)


def _own(owner: Block, context: Any, started: StartedOperations) -> Iterator[StartedOperations]:
    from airflow_ee_provider.earth_engine.ee_client.session import ee_session

    with owner.owned(context):
        owner.begin(context)
        starter = owner.new_starter(context)
        with (
            airflow_errors(),
            ee_session(owner.hook.account, starter, owner.log, owner.start_registered(starter)) as client,
        ):
            yield started
            client.function_returned()
        started.operations = owner.carry_out_all(context, starter)
        if client.registering:
            client.registering.fill_in()


@contextmanager
def _cancelling_on_kill(task: Any, owner: Block) -> Iterator[None]:
    """Let a kill of the task cancel the block's operations first, and then call the task's own `on_kill`."""
    if task is None:
        yield
        return
    is_its_own, own = "on_kill" in vars(task), task.on_kill

    def on_kill() -> None:
        try:
            owner.on_kill()
        finally:
            own()

    task.on_kill = on_kill
    try:
        yield
    finally:
        if is_its_own:
            task.on_kill = own
        else:
            del task.on_kill
