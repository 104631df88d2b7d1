"""``@task.earth_engine``: exports written with the official client, ``earthengine-api``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_ee_provider.tasks.exporting import ExportingOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.providers.common.compat.sdk import Context, TaskDecorator

    from airflow_ee_provider.earth_engine.flows.starting import Export
    from airflow_ee_provider.earth_engine.operation_names import OperationName
    from airflow_ee_provider.earth_engine.results import OperationDict
    from airflow_ee_provider.tasks.starter import Starter


class _EarthEngineDecoratedOperator(DecoratedOperator, ExportingOperator):
    """Call a function with ``ee`` initialised, and own what it starts and returns; see `earth_engine_task`."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *ExportingOperator.template_fields)
    custom_operator_name = "@task.earth_engine"

    def __init__(self, **kwargs: Any) -> None:
        if kwargs.get("multiple_outputs"):
            raise ValueError("@task.earth_engine returns a list of operations: it cannot have multiple_outputs.")
        super().__init__(**kwargs)

    def execute(self, context: Context) -> list[OperationDict]:
        """Make the exports, start them, write their names down, wait."""
        context_merge(context, self.op_kwargs)
        return self.start_and_wait(context, lambda starter: self._exports(context, starter))

    def _exports(self, context: Context, starter: Starter) -> list[Export | OperationName]:
        from airflow_ee_provider.earth_engine.lent_client import lent_client
        from airflow_ee_provider.earth_engine.official_client import exports_of

        with lent_client(self.hook.account, starter, self.log) as client:
            kwargs = determine_kwargs(self.python_callable, self.op_args, context)
            returned = self.python_callable(*self.op_args, **kwargs)
            exports = exports_of(returned, client.project, starter.started)
            if client.project != self.hook.account.project:
                self.log.info("The function has set the project to %s: its exports run there.", client.project)
        return exports


def earth_engine_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Make a task of a function that makes or starts exports; as ``@task.earth_engine``. Needs the extra ``earthengine``.

    The function is called with ``ee`` initialised from the Airflow connection. What it starts by itself
    (``task.start()``, ``ee.data.exportImage(…)``, ``ee.data.startIngestion(…)``, a library's helper) is the task's from
    that moment on, whatever the function returns or raises then. What it returns is the task's as well:
    ``ee.batch.Task`` objects, which need not be started, operations' names or ids, operations and statuses as dicts, in
    any nesting of lists, tuples, sets, generators and dicts. Nothing at all skips the task. Each is started exactly
    once, whatever dies in between, as long as the function makes the same ones again.

    A start that Earth Engine refuses fails the task at the function's end, even if the function has swallowed the
    error, unless the same start succeeds later.

    Returns a list with the operations, each an `OperationDict`.

    :param python_callable: the function; context variables are passed for arguments of their names.
    :param kwargs: the parameters of `ExportParameters`, and those of every task but ``multiple_outputs``.
    :raises ValueError: for ``multiple_outputs``.
    :raises AirflowFailException: where trying again cannot help: an export failed, or cannot be right.
    """
    # Otherwise a return annotation would turn it on.
    return task_decorator_factory(
        python_callable=python_callable,
        decorated_operator_class=_EarthEngineDecoratedOperator,
        **{"multiple_outputs": False, **kwargs},
    )
