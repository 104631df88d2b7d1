"""What is logged, linked, written down and returned of a task's operations once they have ended."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.errors import airflow_exception, line_of
from airflow_ee_provider.earth_engine.ee_client.objects import with_operations
from airflow_ee_provider.earth_engine.model.destinations import link_to
from airflow_ee_provider.earth_engine.model.failures import is_transient
from airflow_ee_provider.earth_engine.model.log_text import count_by, is_short_list, truncated_lines
from airflow_ee_provider.earth_engine.model.operations import Operation
from airflow_ee_provider.exports.lineage import add_outlet_assets
from airflow_ee_provider.links.earth_engine import EarthEngineOutputLink

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import ErrorDict, OperationDict
    from airflow_ee_provider.earth_engine.protocol.waiting import WaitOptions
    from airflow_ee_provider.earth_engine.transport.drivers import Log
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
    from airflow_ee_provider.tracking.requests import Asked


@dataclass(frozen=True)
class Results:
    """A task's operations, as they were read last; some of them may still run."""

    operations: Sequence[OperationDict] = ()

    @cached_property
    def ended(self) -> list[OperationDict]:
        """Those that have ended."""
        return [operation for operation in self.operations if operation["done"]]

    @property
    def errors(self) -> list[ErrorDict]:
        """Of those that have failed, or were cancelled."""
        return [operation["error"] for operation in self.operations if operation["error"]]

    @property
    def destination_uris(self) -> list[str]:
        """What all of them have written."""
        return [uri for operation in self.operations for uri in operation["destination_uris"]]

    def log_and_check(self, total: int, options: WaitOptions, log: Log) -> None:
        """Say how operations have ended.

        :param total: of how many.
        :raises AirflowFailException: with the end of each, if more have failed than ``options`` allow.
        :raises AirflowException: the same, if starting what has failed again may help.
        """
        lines = lines_of(self.ended)
        for line in lines:
            log.info("%s", line)
        if not options.allows(len(self.errors), total):
            raise airflow_exception(
                f"{len(self.errors)} of {total} operations did not succeed:\n  " + "\n  ".join(lines),
                permanent=not all(is_transient(error) for error in self.errors),
            )

    def publish(self, context: Context, outlets: Iterable[Any], log: Log, *, as_xcoms: bool) -> None:
        """Link the task to what was written, add that to its outlets' assets, and write it down for other tasks."""
        if uris := self.destination_uris:
            EarthEngineOutputLink.persist(context, link_to(uris[0]))
            add_outlet_assets(context, outlets, uris, log)
        if as_xcoms:
            context["ti"].xcom_push(key="operations", value=list(self.operations))
            context["ti"].xcom_push(key="operation_names", value=[operation["name"] for operation in self.operations])

    def value_of(self, hook: EarthEngineHook, asked: Asked, started: Mapping[str, str]) -> Any:
        """Return a function's value with its operations in their places.

        :param started: the latest operation of each `Start.key`.
        """
        found = {operation["name"]: operation for operation in self.operations}
        names = [one if "/" in one else started[one] for one in asked.in_value]
        if others := [name for name in names if name not in found]:  # The function has dealt with them itself.
            for name, operation in hook.read_operations(others).items():
                known = operation if isinstance(operation, Operation) else Operation.unread(name)
                found[str(name)] = known.as_dict()
        return with_operations(asked.value, lambda number: found[names[number]])


def lines_of(operations: Sequence[OperationDict]) -> list[str]:
    """Say how operations have ended: a line for each of a few; of many the numbers, and what has failed."""
    if is_short_list(len(operations)):
        return [line_of(operation) for operation in operations]
    used = sum(operation["batch_eecu_usage_seconds"] or 0.0 for operation in operations)
    total = f"{len(operations):,} exports: {count_by(o['state'] for o in operations)}; {used:,.0f} EECU-seconds"
    return [total, *truncated_lines([line_of(operation) for operation in operations if operation["error"]])]
