"""``@task.earth_engine``: exports written with the official client, ``earthengine-api``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_ee_provider.exports.exporting import ExportingOperator
from airflow_ee_provider.exports.requested import Made

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from airflow.providers.common.compat.sdk import Context, TaskDecorator

    from airflow_ee_provider.exports.starter import Starter


class _EarthEngineDecoratedOperator(DecoratedOperator, ExportingOperator):
    """Call a function with ``ee`` initialised, and own what it starts and returns; see `earth_engine_task`."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *ExportingOperator.template_fields)
    custom_operator_name = "@task.earth_engine"

    def execute(self, context: Context) -> Any:
        """Call the function, own what it starts, write its names down, wait, and return its value."""
        context_merge(context, self.op_kwargs)
        return self.start_and_wait(context, lambda starter: self._made(context, starter))

    def _made(self, context: Context, starter: Starter) -> Made:
        from airflow_ee_provider.earth_engine.ee_client.objects import read_value
        from airflow_ee_provider.earth_engine.ee_client.session import lent_client

        with lent_client(self.hook.account, starter, self.log) as client:
            kwargs = determine_kwargs(self.python_callable, self.op_args, context)
            returned = self.python_callable(*self.op_args, **kwargs)
            if isawaitable(returned):
                returned = asyncio.run(_awaited(returned))
            if self.multiple_outputs and not isinstance(returned, Mapping):
                raise AirflowFailException(
                    f"The function returned {type(returned).__name__}, and multiple_outputs wants a dict."
                )
            made = read_value(returned, client.project, {*starter.started, *self.operation_names})
            if client.project != self.hook.account.project:
                self.log.info("The function has set the project to %s: its exports run there.", client.project)
        return Made(*made)


async def _awaited(returned: Awaitable[Any]) -> Any:
    return await returned


def earth_engine_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Make a task of a function that makes or starts exports; as ``@task.earth_engine``. Needs the extra ``earthengine``.

    The function is called once in a try, with ``ee`` initialised from the Airflow connection; a coroutine is awaited.
    What it starts by itself (``task.start()``, ``ee.data.exportImage(…)``, ``ee.data.startIngestion(…)``, a library's
    helper) is the task's from that moment on, whatever the function returns or raises then. The operations in its value
    are the task's as well: ``ee.batch.Task`` objects, which need not be started, operations' names or ids, and those
    that it has started as dicts. Each is started exactly once, whatever dies in between, as long as the function makes
    the same ones again; what an earlier try has started stays the task's, whether or not it is made again.

    Returns the function's value, once all have succeeded: in place of each operation an `OperationDict`, everything
    else as it is. The XComs ``operations`` and ``operation_names`` have all of them.

    A start that Earth Engine refuses fails the task at the function's end, even if the function has swallowed the
    error, unless the same start succeeds later, or ``ignore_refused_starts`` is set. What the function cancels by
    itself, and what has failed before it has started another one in its place, is no failure.

    :param python_callable: the function; context variables are passed for arguments of their names.
    :param kwargs: the parameters of `ExportParameters`, and those of every task.
    :raises AirflowFailException: where trying again cannot help: an export failed, or cannot be right, or the function
        has returned what XCom cannot hold.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_EarthEngineDecoratedOperator, **kwargs
    )
