"""The results of a task's operations after they have ended.

The task logs the operations, adds links to their outputs, reports the outputs to OpenLineage and Airflow's assets,
returns the operations, or restarts them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_ee_provider.base.errors import airflow_exception, line_of
from airflow_ee_provider.earth_engine.ee_client.objects import with_operations
from airflow_ee_provider.earth_engine.model.destinations import link_to, openlineage_dataset
from airflow_ee_provider.earth_engine.model.log_text import count_by, is_short_list, truncated_lines
from airflow_ee_provider.earth_engine.model.operations import Operation, escaped_for_log
from airflow_ee_provider.earth_engine.model.results import is_transient
from airflow_ee_provider.links.earth_engine import EarthEngineOutputLink
from airflow_ee_provider.tracking.store import recorded_with_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import ErrorDict, OperationDict
    from airflow_ee_provider.earth_engine.protocol.starting import Start
    from airflow_ee_provider.earth_engine.protocol.waiting import WaitOptions
    from airflow_ee_provider.earth_engine.transport.drivers import Log
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
    from airflow_ee_provider.tracking.kept_requests import Asked


@dataclass(frozen=True)
class Results:
    """A task's operations, as last read; some of them may still run."""

    operations: Sequence[OperationDict] = ()

    @cached_property
    def ended(self) -> list[OperationDict]:
        """The operations that have ended."""
        return [operation for operation in self.operations if operation["done"]]

    @property
    def names(self) -> list[str]:
        """The operations' names."""
        return [operation["name"] for operation in self.operations]

    @property
    def errors(self) -> list[ErrorDict]:
        """The errors of the operations that have failed or were cancelled."""
        return [operation["error"] for operation in self.operations if operation["error"]]

    @property
    def destination_uris(self) -> list[str]:
        """The URIs of the outputs of all operations."""
        return [uri for operation in self.operations for uri in operation["destination_uris"]]

    def log_and_check(self, total: int, options: WaitOptions, log: Log) -> None:
        """Log how operations have ended; fail if more have failed than ``options`` allow.

        :param total: The number of the task's operations.
        :raises AirflowFailException: If too many have failed; the message has the logged lines.
        :raises AirflowException: The same, if all failures are transient, so that a retry may help.
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
        """Store a link to the output, add the outputs to the outlets' assets, and push XComs for other tasks."""
        if uris := self.destination_uris:
            EarthEngineOutputLink.persist(context, link_to(uris[0]))
            add_outlet_assets(context, outlets, uris, log)
        if as_xcoms:
            context["ti"].xcom_push(key="operations", value=list(self.operations))
            context["ti"].xcom_push(key="operation_names", value=[operation["name"] for operation in self.operations])

    def value_of(self, hook: EarthEngineHook, asked: Asked, started: Mapping[str, str]) -> Any:
        """Return a function's value with its operations in their places.

        :param started: The latest operation of each `Start.key`.
        """
        found = {operation["name"]: operation for operation in self.operations}
        names = [one if "/" in one else started[one] for one in asked.in_value]
        if others := [name for name in names if name not in found]:  # The function has cancelled or replaced them.
            for name, operation in hook.read_operations(others).items():
                known = operation if isinstance(operation, Operation) else Operation.unread(name)
                found[str(name)] = known.as_dict()
        return with_operations(asked.value, lambda number: found[names[number]])


def lines_of(operations: Sequence[OperationDict]) -> list[str]:
    """Return lines on how operations have ended: one for each of a few; for many, the totals and the failures."""
    if is_short_list(len(operations)):
        return [line_of(operation) for operation in operations]
    used = sum(operation["batch_eecu_usage_seconds"] or 0.0 for operation in operations)
    total = f"{len(operations):,} exports: {count_by(o['state'] for o in operations)}; {used:,.0f} EECU-seconds"
    return [total, *truncated_lines([line_of(operation) for operation in operations if operation["error"]])]


def operator_lineage(destination_uris: Iterable[str]) -> Any:
    """Return an OperatorLineage with the destinations as outputs; only called if OpenLineage is installed."""
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(outputs=[Dataset(*openlineage_dataset(uri)) for uri in destination_uris if link_to(uri)])


def add_outlet_assets(context: Context, outlets: Iterable[Any], destination_uris: Iterable[str], log: Log) -> None:
    """Add the exports' outputs in Cloud Storage to each AssetAlias among a task's outlets; log errors as warnings."""
    for uri in destination_uris:
        if not link_to(uri):
            log.warning("No lineage for the destination %s: its address is not supported.", escaped_for_log(repr(uri)))
            continue
        namespace, name = openlineage_dataset(uri)
        if namespace.startswith("gs://"):
            try:
                _add(context, outlets, Asset(f"{namespace}/{name}"))
            except Exception as error:  # noqa: BLE001 (Airflow may raise any exception, and the export has succeeded)
                log.warning("No lineage for the destination %s: %s", escaped_for_log(repr(uri)), error)


def _add(context: Context, outlets: Iterable[Any], asset: Asset) -> None:
    for alias in outlets:
        if isinstance(alias, AssetAlias):
            context["outlet_events"][alias].add(asset)


def failed_to_restart(
    context: Context, operations: Sequence[OperationDict], max_restarts: int, starts: Iterable[Start]
) -> list[str]:
    """Return the failed operations that are to be restarted.

    :param max_restarts: How often each start may be repeated in this try.
    :param starts: The starts that can be repeated.
    """
    if not max_restarts:
        return []
    recorded = recorded_with_keys(context)
    key_of, times = dict(recorded), Counter(key for _, key in recorded if key)
    repeatable = {start.key for start in starts}

    def is_restarted(operation: OperationDict) -> bool:
        error, key = operation["error"], key_of.get(operation["name"], "")
        return error is not None and key in repeatable and times[key] <= max_restarts and is_transient(error)

    return [operation["name"] for operation in operations if is_restarted(operation)]
