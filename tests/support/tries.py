"""Runs tries of a task of ``@task.earth_engine`` as Airflow's processes do, without an Airflow."""

from __future__ import annotations

import asyncio
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from instances import TaskInstance

from airflow_ee_provider.base.stored_values import xcom_backend
from airflow_ee_provider.decorators.earth_engine import _EarthEngineDecoratedOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.emulator.service import Service


class SerialisingInstance(TaskInstance):
    """A task instance whose XComs are serialized as in Airflow."""

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = xcom_backend().serialize_value(value)

    def xcom_pull(self, task_ids: str, map_indexes: int, key: str) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        if key not in self.xcoms:
            return None
        return xcom_backend().deserialize_value(SimpleNamespace(value=self.xcoms[key]))


class Tries:
    """The tries of one task instance.

    :param function: of the task.
    :param store: the task state store of Airflow 3.3, which survives a try; None before 3.3.
    :param how: other parameters of the task.
    """

    def __init__(
        self, function: Callable[..., Any], *, store: Any = None, retries: int = 3, make: Any = None, **how: Any
    ) -> None:
        self._function, self._store, self._retries = function, store, retries
        self._make = make or self._decorated
        self._how = {"poll_interval": 0.2, **how}
        self.try_number = 0
        #: The triggers for which this try has waited, one for each deferral.
        self.triggers: list[Any] = []
        self.ti = SerialisingInstance()

    def _decorated(self) -> Any:
        return _EarthEngineDecoratedOperator(
            task_id="a", python_callable=self._function, op_args=(), op_kwargs={}, **self._how
        )

    def run(self) -> Any:
        """Run the next try, and return the task's result."""
        self.try_number += 1
        self.triggers = []
        self.ti = SerialisingInstance(try_number=self.try_number, max_tries=self._retries)
        context: Any = {"ti": self.ti, "dag_run": None, "task_state_store": self._store}
        method, kwargs = "execute", {}
        while True:
            task = self._make()
            task.pre_execute(context)
            try:
                value = getattr(task, method)(context, **kwargs)
            except TaskDeferred as deferred:
                self.triggers.append(deferred.trigger)
                method, kwargs = deferred.method_name, {"event": asyncio.run(_event_of(deferred.trigger))}
            except Exception as error:
                is_final = isinstance(error, AirflowFailException) or self.try_number > self._retries
                task.ending.on_end("failed" if is_final else "up_for_retry")  # Airflow calls it at a process's end.
                raise
            else:
                task.ending.on_end("success")
                return value

    def xcom(self, key: str) -> Any:
        """Return an XCom of this try."""
        return self.ti.xcom_pull(self.ti.task_id, -1, key)


async def _event_of(trigger: Any) -> Any:
    """Return the payload of a trigger's event; the trigger is made again from its serialized form, as in Airflow."""
    path, kwargs = trigger.serialize()
    module, _, name = path.rpartition(".")
    again = getattr(import_module(module), name)(**kwargs)
    async for event in again.run():
        return event.payload
    raise AssertionError("The trigger has ended without an event.")


def let_the_first_fail(service: Service, number: int) -> None:
    """Make the first operations of an emulator fail with an error after which they are started again.

    :param number: how many of them.
    """
    create = service._create

    def failing(project: str, kind: str, request: Any, behaviour: Any) -> Any:
        if len(service.operations) < number:
            behaviour = {**behaviour, "outcome": "FAILED", "message": "Internal error."}
        return create(project, kind, request, behaviour)

    service._create = failing  # type: ignore[method-assign]
