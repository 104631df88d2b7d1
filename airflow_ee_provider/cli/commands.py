"""The functions of the commands."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.utils.providers_configuration_loader import providers_configuration_loaded

from airflow_ee_provider.base.airflow_versions import HAS_TASK_STATE_STORE
from airflow_ee_provider.cli.output import (
    CANCEL_COLUMNS,
    LONGEST_CELL,
    OPERATION_COLUMNS,
    Answer,
    answering,
    ask,
    drop_warning_of_connection_types,
)
from airflow_ee_provider.earth_engine.model.metrics import measure_cancels
from airflow_ee_provider.earth_engine.model.operations import Operation, escaped_for_log
from airflow_ee_provider.earth_engine.protocol.cancelling import CANCEL_TIMEOUT, READING_SHARE
from airflow_ee_provider.earth_engine.protocol.stale import StaleCriteria
from airflow_ee_provider.tracking.api_client import POKE_BEGINS_WITHIN
from airflow_ee_provider.tracking.database import read_holdings, visible_connections
from airflow_ee_provider.tracking.holders import HeldOperation, describe_holders, with_holders
from airflow_ee_provider.tracking.overview import ListedOperation, read_overview

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

    from airflow_ee_provider.earth_engine.protocol.cancelling import CancelResult
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

#: The filters of `StaleCriteria` that the command line has.
_CRITERIA = ("description", "description_regex", "older_than", "max_priority", "min_eecu_seconds")


def list_command(args: Namespace) -> None:
    """List operations and the tasks that they belong to."""
    with _answering() as answer:
        _show(answer, _selected(args, also_ended=args.also_ended), args.output)


def show_command(args: Namespace) -> None:
    """Show operations in full."""
    with _answering() as answer:
        hook = _hook(args)
        operations = [hook.get_operation(name) for name in hook.account.names(args.operation_names)]
        rows = [_row(ListedOperation(args.conn_id, one)) for one in with_holders(operations, read_holdings)]
        if args.output != "table":
            answer.show(rows, OPERATION_COLUMNS, args.output)
            return
        for row in rows:
            answer.show_in_full(row)


def cancel_command(args: Namespace) -> None:
    """Cancel operations, and confirm it; the exit code is 1 if one may still run."""
    with _answering() as answer:
        hook = _hook(args)
        is_filtered = bool(args.dag_id or args.states) or _criteria(args) is not None
        if args.operation_names and is_filtered:
            sys.exit("Name operations, or choose some with filters; not both.")
        if args.operation_names:
            names = [str(name) for name in hook.account.names(args.operation_names)]
            read = hook.read_operations(names, timeout=_timeout(args) * READING_SHARE)
            found = [operation for operation in read.values() if isinstance(operation, Operation)]
            held = [
                ListedOperation(args.conn_id, one)
                for one in with_holders(found, read_holdings)
                if not one.operation.done
            ]
        elif _criteria(args, select_all=bool(args.dag_id)) is None and not args.dag_id:
            sys.exit("Name operations, or choose some with a filter: without one, everybody's would be cancelled.")
        else:
            args.conn_ids = [args.conn_id]
            held = _selected(args)
            names = [str(one.held.operation.name) for one in held]
        _confirm(held, args, len(names))
        _cancel({args.conn_id: names}, args, answer)


def orphans_command(args: Namespace) -> None:
    """List or cancel orphaned operations: a task has recorded them, and no active task needs them."""
    with _answering() as answer:
        orphans = [one for one in _selected(args) if one.held.orphaned]
        if not args.cancel:
            _show(answer, orphans, args.output)
            return
        _confirm(orphans, args, len(orphans))
        names: dict[str, list[str]] = {}
        for one in _still_orphaned(orphans):
            names.setdefault(one.conn_id, []).append(str(one.held.operation.name))
        _cancel(names, args, answer)


def wait_command(args: Namespace) -> None:
    """Wait until operations have ended; the exit code is 1 if one has not succeeded."""
    with _answering() as answer:
        operations = _hook(args).wait_for_operations(
            args.operation_names, poll_interval=args.poll_interval, timeout=args.timeout, stop_at_failure=False
        )
        rows = [_row(ListedOperation(args.conn_id, one)) for one in with_holders(operations, read_holdings)]
        answer.show(rows, OPERATION_COLUMNS, args.output)
        if not all(operation.succeeded for operation in operations):
            sys.exit(1)


def _hook(args: Namespace, conn_id: str | None = None) -> EarthEngineHook:
    from airflow_ee_provider.hooks.earth_engine import EarthEngineServerHook

    return EarthEngineServerHook(conn_id or args.conn_id, args.project_id)


def _criteria(args: Namespace, *, select_all: bool = True) -> StaleCriteria | None:
    """Return the criteria that the filters set; None if no filter is set.

    :param select_all: Whether the criteria may select every operation of the project.
    :raises ValueError: If a filter is empty, such as an unset shell variable. Without it, more operations would match.
    """
    given = {name: value for name in _CRITERIA if (value := getattr(args, name)) is not None}
    if empty := [name for name, value in given.items() if value == ""] + [
        "type" for one in args.types or () if not one
    ]:
        raise ValueError(f"--{empty[0].replace('_', '-')} is empty.")
    if not given and not args.types:
        return None
    return StaleCriteria(**given, types=tuple(args.types or ()), select_all=select_all)


def _selected(args: Namespace, *, also_ended: bool = False) -> list[ListedOperation]:
    """Return the operations that match the filters. Exit if a project cannot be listed and no operation is found."""
    overview = read_overview(args.conn_ids or visible_connections(), args.project_id, also_ended=also_ended)
    for conn_id, error in overview.errors.items():
        print(f"{conn_id}: {error}", file=sys.stderr)  # noqa: T201 (the command line)
    if overview.errors and not overview.operations:
        sys.exit(1)
    criteria, now = _criteria(args), datetime.now(timezone.utc)

    def is_chosen(one: HeldOperation) -> bool:
        state = one.operation.state.value
        return (
            (not args.states or state in args.states)
            and (not args.dag_id or any(holder.dag_id == args.dag_id for holder in one.holders))
            and (criteria is None or bool(criteria.meets(one.operation, now)))
        )

    return [one for one in overview.operations if is_chosen(one.held)]


def _still_orphaned(orphans: Sequence[ListedOperation]) -> list[ListedOperation]:
    """Return the operations that are still orphaned: a task may have recorded one while the user read the question.

    Before Airflow 3.3, a rescheduled sensor has no record for a moment at the beginning of each poke.
    """
    if orphans and not HAS_TASK_STATE_STORE:
        time.sleep(POKE_BEGINS_WITHIN)
    held = with_holders([one.held.operation for one in orphans], read_holdings)
    needed = {one.operation.name: one for one in held if not one.orphaned}
    for one in needed.values():
        print(f"{_question_line(one)}. It is no longer orphaned, and is not cancelled.", file=sys.stderr)  # noqa: T201
    return [one for one in orphans if one.held.operation.name not in needed]


def _confirm(held: Sequence[ListedOperation], args: Namespace, total: int) -> None:
    """Ask whether to cancel operations, unless ``--yes`` is set."""
    if total and not args.yes:
        for one in held:
            print(_question_line(one.held), file=sys.stderr)  # noqa: T201
        ask(f"Cancel {'this operation' if total == 1 else f'these {total:,} operations'}? [y/N] ")


def _cancel(names: dict[str, list[str]], args: Namespace, answer: Answer) -> None:
    """Cancel operations of each connection, and confirm it; exit with 1 if one may still run."""
    if not any(names.values()):
        print("There is nothing to cancel.", file=sys.stderr)  # noqa: T201
        return
    results: list[CancelResult] = []
    for conn_id, those in names.items():
        results += _hook(args, conn_id).cancel_operations(those, timeout=_timeout(args))
    measure_cancels([result.outcome for result in results], "command_line")
    answer.show([_bounded({**result.as_dict()}) for result in results], CANCEL_COLUMNS, args.output)
    if not all(result.outcome.has_ended for result in results):
        sys.exit(1)


def _timeout(args: Namespace) -> timedelta:
    return timedelta(seconds=CANCEL_TIMEOUT) if args.timeout is None else args.timeout


def _question_line(one: HeldOperation) -> str:
    holders = describe_holders([vars(holder) for holder in one.holders])
    return f"{one.operation.label}, {one.operation.describe()}: {holders or 'no task has recorded it'}"


def _show(answer: Answer, operations: Sequence[ListedOperation], output: str) -> None:
    """Write operations. For ``--output name``, make only their names, since there can be thousands."""
    names_only = output == "name"
    rows = ({"name": str(one.held.operation.name)} if names_only else _row(one) for one in operations)
    answer.show(list(rows), OPERATION_COLUMNS, output)


def _row(one: ListedOperation) -> dict[str, Any]:
    """Return an operation's fields, named as on the page and in the hooks; a table shows some of them."""
    return _bounded({**one.as_dict()})


def _bounded(row: dict[str, Any]) -> dict[str, Any]:
    """Return a result with each text escaped for a terminal, and no longer than `LONGEST_CELL`."""
    return {
        name: escaped_for_log(value, LONGEST_CELL) if isinstance(value, str) else value for name, value in row.items()
    }


@contextmanager
def _answering() -> Iterator[Answer]:
    """Read connections from Airflow's database during the command, as Airflow's own commands for connections do."""
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    drop_warning_of_connection_types()
    with answering() as answer:
        providers_configuration_loaded(lambda: None)()  # Here, since in Airflow 3.0 it logs to the standard output.
        yield answer
