"""``ee`` in any task: a plain ``@task``, a PythonOperator, an operator of one's own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import get_current_context

from airflow_ee_provider.base.errors import airflow_errors
from airflow_ee_provider.exports.exporting import ExportingOperator
from airflow_ee_provider.exports.requested import Made

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import OperationDict
    from airflow_ee_provider.exports.starter import Starter

__all__ = ["StartedOperations", "earth_engine"]


class StartedOperations:
    """What was started in a block of `earth_engine`; complete once the block has ended."""

    def __init__(self) -> None:
        #: Each operation as it was when the block ended: with ``wait_for_completion``, that is its end.
        self.operations: list[OperationDict] = []

    @property
    def operation_names(self) -> list[str]:
        """Their names, for a sensor."""
        return [operation["name"] for operation in self.operations]


class _Block(ExportingOperator):
    """Owns what is started in a block, in place of the task that runs it."""

    def carry_out_all(self, context: Context, starter: Starter) -> list[OperationDict]:
        """Wait for what the block has started, if that is wanted, and return it."""
        asked = self.settle(context, starter, Made(None, []))
        self.carry_out(context, asked)
        return list(self.results.operations)


@contextmanager
def earth_engine(
    context: Context | None = None, *, wait_for_completion: bool = False, **parameters: Any
) -> Iterator[StartedOperations]:
    """
    Initialise ``ee`` from the Airflow connection for the block's time, and own what is started in it.

    What the block starts (``task.start()``, a library's helper) is recorded, and is the task's from that moment on: it
    is cancelled when the task is killed while the block runs, or when an exception leaves the block and no try follows;
    otherwise the next try finds it. Each is started exactly once, as in ``@task.earth_engine``. A start that Earth
    Engine refuses fails the block at its end, unless ``ignore_refused_starts`` is set.

    It needs the task's own process: a notebook's kernel is another one.

    :param context: the task's; by default that of the task that runs.
    :param wait_for_completion: wait, in the worker, until all have succeeded; otherwise they run on after the block.
    :param parameters: `ExportParameters`, for example ``earth_engine_conn_id``; but for ``deferrable``.
    :raises AirflowFailException: where trying again cannot help: an export failed.
    """
    current: Any = get_current_context() if context is None else context
    task = getattr(current["ti"], "task", None)
    owner = _Block(
        task_id=current["ti"].task_id,
        wait_for_completion=wait_for_completion,
        deferrable=False,
        execution_timeout=getattr(task, "execution_timeout", None),
        **parameters,
    )
    started = StartedOperations()
    with _told_of_kills(task, owner):
        owner.pre_execute(current)
        yield from _own(owner, current, started)


def _own(owner: _Block, context: Any, started: StartedOperations) -> Iterator[StartedOperations]:
    from airflow_ee_provider.earth_engine.ee_client.session import lent_client

    with owner.owned(context):
        owner.begin(context)
        starter = owner.new_starter(context)
        with airflow_errors(), lent_client(owner.hook.account, starter, owner.log):
            yield started
        started.operations = owner.carry_out_all(context, starter)


@contextmanager
def _told_of_kills(task: Any, owner: _Block) -> Iterator[None]:
    """Let Airflow, when it kills the task, call what cancels for the block, and then what the task has of its own."""
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
