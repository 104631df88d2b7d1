"""``@task.earth_engine``: exports written with the official client, ``earthengine-api``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_ee_provider.exporting import ExportingOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.providers.common.compat.sdk import Context, TaskDecorator

    from airflow_ee_provider.earth_engine.operations import OperationName
    from airflow_ee_provider.earth_engine.starting import Export


class _EarthEngineDecoratedOperator(DecoratedOperator, ExportingOperator):
    """Call a function with ``ee`` initialised, and own the exports that it returns; see `earth_engine_task`."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *ExportingOperator.template_fields)
    custom_operator_name = "@task.earth_engine"

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Make the exports, start them, write their names down, wait."""
        context_merge(context, self.op_kwargs)
        return self.own(context, lambda: self._exports(context))

    def _exports(self, context: Context) -> list[Export | OperationName]:
        from airflow_ee_provider.earth_engine.official_client import exports_of, initialized_client

        with initialized_client(self.hook.account):
            kwargs = determine_kwargs(self.python_callable, self.op_args, context)
            return exports_of(self.python_callable(*self.op_args, **kwargs))


def earth_engine_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Make a task of a function that returns exports; as ``@task.earth_engine``. Needs the extra ``earthengine``.

    The function is called with ``ee`` initialised from the Airflow connection, and returns one ``ee.batch.Task`` or
    several, such as ``ee.batch.Export.image.toDrive(…)`` gives. They need not be started: the task starts each of them
    exactly once, whatever dies in between, as long as the function makes the same ones in the same order again. One
    that the function has started itself is waited for and cancelled as well, but a retry may start it again. No
    export at all skips the task.

    Returns a list with the operations; see `EarthEngineExportOperator`.

    :param python_callable: the function; context variables are passed for arguments of their names.
    :param kwargs: the parameters of `ExportingOperator`, and those of every task.
    :raises AirflowFailException: where trying again cannot help: an export failed, or cannot be right.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_EarthEngineDecoratedOperator, **kwargs
    )
