"""The output of the commands: tables for people, JSON and YAML with the results' own types, names for ``xargs``."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import datetime, timezone
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
from airflow_ee_provider.earth_engine.model.operations import escaped_for_log, parse_timestamp
from airflow_ee_provider.tracking.holders import describe_holder, describe_holders

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

#: The beginning of a warning of Airflow. The type follows: in the message of structlog, but not yet in the message of
#: Python's logging.
_WARNING = "Connection schemes (type: "

#: The columns of a table of operations and of a table of cancels, and the maximum length of a cell, in characters.
OPERATION_COLUMNS = ("state", "name", "description", "type", "age", "batch_eecu_usage_seconds", "tasks", "orphaned")
CANCEL_COLUMNS = ("outcome", "name", "description", "error")
LONGEST_CELL = 1000

#: Exit codes: the output's reader has closed the pipe, the user has pressed Ctrl-C, the command was used wrongly.
READER_GONE, INTERRUPTED, WRONG_USE = 141, 130, 2

#: The width of a table in a file or a pipe, in characters. It is large so that no name is split over two lines.
WIDTH_OF_A_FILE = 10_000


class Answer:
    """Writes a command's output. Log lines, including those of Airflow, go to the standard error instead."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def show(self, rows: Sequence[dict[str, Any]], columns: Sequence[str], output: str) -> None:
        """Write rows in the format of ``--output``.

        :param rows: The results as plain JSON.
        :param columns: The columns of a table.
        """
        if output == "json":
            print(json.dumps(rows, indent=2), file=self._file)
        elif output == "yaml":
            import yaml

            yaml.safe_dump(list(rows), self._file, sort_keys=False)
        elif output == "name":
            for row in rows:
                print(row["name"], file=self._file)
        else:
            self._table([[_cell(name, row) for name in columns] for row in rows], columns, is_plain=output == "plain")

    def show_in_full(self, row: dict[str, Any]) -> None:
        """Write one result as a table with a row for each of its fields."""
        self._table([[name, _text(value)] for name, value in row.items()], ("field", "value"), is_plain=False)

    def _table(self, rows: Sequence[Sequence[str]], columns: Sequence[str], *, is_plain: bool) -> None:
        from rich.box import ASCII_DOUBLE_HEAD
        from rich.console import Console
        from rich.table import Table

        console = Console(file=self._file, width=None if self._file.isatty() else WIDTH_OF_A_FILE, markup=False)
        table = Table(box=None if is_plain else ASCII_DOUBLE_HEAD, show_header=bool(rows) or not is_plain)
        for name in columns:
            table.add_column(name, no_wrap=name == "name", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)


def _cell(name: str, row: dict[str, Any]) -> str:
    """Return the text of a cell. The columns ``age`` and ``tasks`` are made from other fields of the result."""
    if name == "age":
        created = parse_timestamp(row.get("create_time"))
        return "" if created is None else str(datetime.now(timezone.utc) - created).partition(".")[0]
    if name == "tasks":
        return describe_holders(row.get("holders", ()))
    return _text(row.get(name))


def _text(value: Any) -> str:
    if value is None or value == []:
        return ""
    if isinstance(value, dict) and "message" in value:
        return escaped_for_log(value["message"], LONGEST_CELL)
    if isinstance(value, dict) and "dag_id" in value:
        return describe_holder(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(
            describe_holder(one) if isinstance(one, dict) and "dag_id" in one else _text(one) for one in value
        )
    return escaped_for_log(str(value), LONGEST_CELL)


@contextmanager
def answering() -> Iterator[Answer]:
    """Yield the command's output. If the command fails, exit with one line and an exit code.

    Airflow's own loggers can write to the standard output, which is only for the answer. So during the command, the
    process's standard output is redirected to the standard error.
    """
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    file = os.fdopen(os.dup(own), "w", encoding="utf-8")
    try:
        with redirect_stdout(sys.stderr):  # For code that uses the object, not the descriptor.
            yield Answer(file)
        file.flush()
    except BrokenPipeError:
        # `close` writes the file's buffer: to the null device, so that it does not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
        sys.exit(READER_GONE)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)  # noqa: T201 (the command line)
        sys.exit(INTERRUPTED)
    except (EarthEngineError, ValueError) as error:
        sys.exit(str(error))
    finally:
        with suppress(BrokenPipeError):
            file.close()
        sys.stdout.flush()
        os.dup2(own, 1)
        os.close(own)


def ask(question: str) -> None:
    """Ask the user at the terminal, and return only after a yes.

    :raises SystemExit: If the answer is not a yes, or if there is no terminal.
    """
    print(question, end="", file=sys.stderr, flush=True)  # noqa: T201
    line = sys.stdin.readline()
    if not line:
        print(  # noqa: T201
            "\nNothing was cancelled: there is no terminal to ask in. With --yes, the command does not ask.",
            file=sys.stderr,
        )
        sys.exit(WRONG_USE)
    if line.strip().lower() not in ("y", "yes"):
        sys.exit("Nothing was cancelled.")


@cache
def drop_warning_of_connection_types() -> None:
    """Drop Airflow's warning that a connection's type has an underscore: users of a command cannot change the type.

    Airflow logs it each time it reads such a connection: Airflow 2 with Python's logging, Airflow 3 with structlog.
    """
    logging.getLogger("airflow.models.connection.Connection").addFilter(lambda record: not _is_it(record.msg))
    if find_spec("structlog"):
        import structlog

        def drop(_logger: Any, _method: str, event: Any) -> Any:
            if _is_it(event.get("event")):
                raise structlog.DropEvent
            return event

        structlog.configure(processors=[drop, *structlog.get_config()["processors"]])


def _is_it(message: Any) -> bool:
    return str(message).startswith(_WARNING)
