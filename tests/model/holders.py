"""The holders of operations in a history: each operator and sensor, by where it waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import official

from airflow_ee_provider.earth_engine.protocol.starting import Export
from airflow_ee_provider.exports.exporting import ExportingOperator
from airflow_ee_provider.operators.earth_engine import EarthEngineCancelOperationsOperator, EarthEngineExportOperator
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.exports.starter import Starter

BODY = {
    "expression": {"x": 1},
    "description": "mine",
    "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}},
}


def sensor(names: list[str], **how: Any) -> Any:
    return EarthEngineOperationsSensor(
        task_id="task",
        operation_names=names,
        cancel_on_kill=True,
        cancel_on_timeout=True,
        cancel_on_failure=True,
        timeout=3600,
        **how,
    )


def export(**how: Any) -> Any:
    return EarthEngineExportOperator(task_id="task", kind="image", body=BODY, **how)


class TwoExports(ExportingOperator):
    """Start two exports, as a function of `@task.earth_engine` does."""

    def execute(self, context: Any) -> Any:
        exports = [Export("image", {**BODY, "description": f"mine {n}"}) for n in range(2)]
        return self.start_and_wait(context, lambda _: exports)


class Function(ExportingOperator):
    """Start two exports in its function, some seconds apart, as a function of `@task.earth_engine` may."""

    def first(self, context: Any) -> int:
        """Return the number of the first export."""
        del context
        return 0

    def execute(self, context: Any) -> Any:
        def function(starter: Starter) -> list[Export]:
            for number in (self.first(context), self.first(context) + 1):
                starter.start(starter.prepare("image:export", {**BODY, "description": f"mine {number}"}))
                time.sleep(3.0)
            return []

        return self.start_and_wait(context, function)


class Changing(Function):
    """Do the same; later tries leave out the first try's first export, and start another one."""

    def first(self, context: Any) -> int:
        return min(context["ti"].try_number, 2) - 1


class Waves(ExportingOperator):
    """Start two exports, the second one after the first has ended, because of `max_active_operations`."""

    def execute(self, context: Any) -> Any:
        exports = [Export("image", {**BODY, "description": f"mine {n}"}) for n in range(2)]

        def function(_: Starter) -> list[Export]:
            context["ti"].airflow.calls[context["ti"].try_number] += 1
            return exports

        return self.start_and_wait(context, function)


#: The holders. Each returns its operator, given the names of operations that were started elsewhere.
HOLDERS: dict[str, Callable[[list[str]], Any]] = {
    "export, worker": lambda _: export(deferrable=False),
    "export, deferred": lambda _: export(deferrable=True),
    "two exports, worker": lambda _: TwoExports(task_id="task", deferrable=False),
    "function, deferred": lambda _: Function(task_id="task", deferrable=True),
    "changing, deferred": lambda _: Changing(task_id="task", deferrable=True),
    "waves, worker": lambda _: Waves(task_id="task", deferrable=False, max_active_operations=1),
    "waves, deferred": lambda _: Waves(task_id="task", deferrable=True, max_active_operations=1),
    "decorator, deferred": lambda _: official.decorated(deferrable=True),
    "sensor, poking": lambda names: sensor(names, deferrable=False),
    "sensor, deferred": lambda names: sensor(names, deferrable=True),
    "sensor, reschedule": lambda names: sensor(names, mode="reschedule", poll_interval=20),
    "cancel, worker": lambda names: EarthEngineCancelOperationsOperator(
        task_id="task", operation_names=names, deferrable=False
    ),
    "cancel, deferred": lambda names: EarthEngineCancelOperationsOperator(
        task_id="task", operation_names=names, deferrable=True
    ),
}

#: How many exports a holder starts.
EXPORTS = {"export": 1, "two exports": 2, "function": 2, "changing": 3, "waves": 2, "decorator": 2}
