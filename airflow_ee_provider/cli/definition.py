"""The command line's arguments. It imports no other module of the package, because each ``airflow`` call imports it."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

_UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """Read ``90``, ``90s``, ``15m``, ``6h`` or ``2d``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r:.50} is not a duration. Write 90s, 15m, 6h or 2d")
    try:
        return timedelta(**{_UNITS[found[2]]: float(found[1])})
    except OverflowError:
        raise argparse.ArgumentTypeError(f"{text!r:.50} is longer than any duration can be") from None


def given(text: str) -> str:
    """Return the text. Refuse an empty one, such as an unset shell variable: other operations would be selected."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


ARG_NAMES = Arg(
    ("operation_names",),
    nargs="+",
    metavar="OPERATION",
    help="projects/PROJECT/operations/ID, or an id of the connection's project",
)
ARG_NAMES_OR_NONE = Arg(
    ("operation_names",),
    nargs="*",
    metavar="OPERATION",
    help="projects/PROJECT/operations/ID, or an id of the connection's project; or choose operations by filters",
)
ARG_OUTPUT = Arg(
    ("-o", "--output"),
    choices=("table", "plain", "json", "yaml", "name"),
    default="table",
    help="the format; name writes only the operations' names (default: %(default)s)",
)
ARG_CONN_ID = Arg(
    ("--conn-id",), type=given, default="earth_engine_default", help="the connection (default: %(default)s)"
)
ARG_CONN_IDS = Arg(
    ("--conn-id",),
    type=given,
    action="append",
    dest="conn_ids",
    help="a connection whose project is listed; can be repeated (default: [earth_engine] connections)",
)
ARG_PROJECT_ID = Arg(("--project-id",), type=given, help="the Cloud project (default: the connection's)")
ARG_ALL = Arg(("--all",), action="store_true", dest="also_ended", help="include operations that have ended")
ARG_YES = Arg(("-y", "--yes"), action="store_true", help="do not ask first")
ARG_CANCEL = Arg(("--cancel",), action="store_true", help="cancel them, and confirm it")
ARG_TIMEOUT = Arg(("--timeout",), type=duration, help="maximum time to wait, such as 90s, 15m, 6h or 2d")
ARG_POLL_INTERVAL = Arg(
    ("--poll-interval",), type=duration, default=duration("30s"), help="maximum time between two polls (default: 30s)"
)

FILTERS = (
    Arg(("--dag-id",), type=given, help="operations of tasks of this DAG"),
    Arg(("--description",), help="operations whose whole description matches this glob, such as 'ndvi-*'"),
    Arg(("--description-regex",), help="operations in whose description this regular expression is found"),
    Arg(
        ("--type",),
        action="append",
        dest="types",
        help="operations of this type, such as EXPORT_IMAGE; can be repeated",
    ),
    Arg(
        ("--state",),
        action="append",
        dest="states",
        help="operations in this state: PENDING, RUNNING or CANCELLING; can be repeated",
    ),
    Arg(("--older-than",), type=duration, help="operations that are older than this, such as 90s, 15m, 6h or 2d"),
    Arg(("--max-priority",), type=int, help="operations of this priority or a lower one"),
    Arg(("--min-eecu-seconds",), type=float, help="operations that have used this many EECU-seconds or more"),
)


def _command(name: str, help_text: str, *args: Arg) -> ActionCommand:
    function = lazy_load_command(f"airflow_ee_provider.cli.commands.{name}_command")
    return ActionCommand(name=name, help=help_text, func=function, args=args)


def get_earth_engine_cli_commands() -> list[CLICommand]:
    """Return the commands of ``airflow earth-engine``."""
    subcommands = (
        _command(
            "list",
            "List operations and the tasks that they belong to",
            *(ARG_CONN_IDS, ARG_PROJECT_ID, ARG_ALL, ARG_OUTPUT),
            *FILTERS,
        ),
        _command("show", "Show operations in full", ARG_NAMES, ARG_CONN_ID, ARG_PROJECT_ID, ARG_OUTPUT),
        _command(
            "cancel",
            "Cancel operations and confirm it; exit code 1 if one may still run",
            *(ARG_NAMES_OR_NONE, ARG_CONN_ID, ARG_PROJECT_ID, ARG_YES, ARG_TIMEOUT, ARG_OUTPUT),
            *FILTERS,
        ),
        _command(
            "orphans",
            "List or cancel orphaned operations: a task has recorded them, and no active task needs them",
            *(ARG_CONN_IDS, ARG_PROJECT_ID, ARG_CANCEL, ARG_YES, ARG_TIMEOUT, ARG_OUTPUT),
            *FILTERS,
        ),
        _command(
            "wait",
            "Wait until operations have ended; exit code 1 if one has not succeeded",
            *(ARG_NAMES, ARG_CONN_ID, ARG_PROJECT_ID, ARG_TIMEOUT, ARG_POLL_INTERVAL, ARG_OUTPUT),
        ),
    )
    return [GroupCommand(name="earth-engine", help="Google Earth Engine's operations", subcommands=subcommands)]
