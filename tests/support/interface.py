"""``make interface``: every public parameter, method and result, read from the classes, as ``docs/interface.md``.

A parameter has one row in `PARAMETERS`, and so one meaning, whichever class has it; a test compares the page with the
classes, and the classes with each other.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path
from typing import Any

from airflow_ee_provider.base.parameters import NotGiven
from airflow_ee_provider.decorators.earth_engine import _EarthEngineDecoratedOperator
from airflow_ee_provider.earth_engine.model import results
from airflow_ee_provider.earth_engine.protocol.cancelling import CancelOutcome
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.hooks.methods import Methods
from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.operators.earth_engine import (
    EarthEngineCancelOperationsOperator,
    EarthEngineCancelStaleOperationsOperator,
    EarthEngineExportOperator,
    EarthEngineImportOperator,
)
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor
from airflow_ee_provider.triggers.earth_engine import EarthEngineCancelOperationsTrigger, EarthEngineOperationsTrigger

PAGE = Path(__file__).parents[2] / "docs" / "interface.md"

#: The page's columns.
CLASSES: dict[str, Any] = {
    "`@task.earth_engine`": _EarthEngineDecoratedOperator,
    "export": EarthEngineExportOperator,
    "import": EarthEngineImportOperator,
    "sensor": EarthEngineOperationsSensor,
    "cancel": EarthEngineCancelOperationsOperator,
    "janitor": EarthEngineCancelStaleOperationsOperator,
    "notifier": EarthEngineCancelOperationsNotifier,
    "hook": EarthEngineHook,
}

TRIGGERS = (EarthEngineOperationsTrigger, EarthEngineCancelOperationsTrigger)

DURATION = "seconds, or a `timedelta`"

#: Type and unit, and meaning: one for all classes.
PARAMETERS: dict[str, tuple[str, str]] = {
    "operation_names": (
        "one name or several",
        "`projects/PROJECT/operations/ID`, or an id of the connection's project",
    ),
    "scope": ("a word", "whose recorded operations are meant, where no names are given"),
    "kind": ("a word", "of export: `image`, `table`, `video`, `videoMap`, `map`, `classifier`"),
    "body": ("JSON", "the export, as the API has it"),
    "manifest": ("JSON", "the asset to import, as the API has it"),
    "overwrite": ("true or false", "replace an asset that is there already"),
    "earth_engine_conn_id": ("a text, or None", "the connection; None stands for Application Default Credentials"),
    "project_id": ("a text", "the Cloud project, in place of the connection's"),
    "impersonation_chain": ("a text or several", "service accounts, the last of which calls Earth Engine"),
    "workload_tag": ("a text", "under which Cloud Monitoring shows the costs; by default made of the DAG's id"),
    "priority": ("0 to 9999", "where an export has none of its own"),
    "wait_for_completion": ("true or false", "wait until the operations have ended, or their cancels are confirmed"),
    "poll_interval": (DURATION, "between two polls, at most: what has just begun is read more often"),
    "timeout": (DURATION, "maximum time to wait; what then, see below"),
    "cancel_timeout": (DURATION, "maximum time to wait for the confirmation; what then, see below"),
    "deferrable": ("true or false", "wait in the triggerer"),
    "max_eecu_seconds": (
        "EECU-seconds",
        "that each operation may use; one that uses more is cancelled, and the task fails",
    ),
    "max_total_eecu_seconds": (
        "EECU-seconds",
        "that all may use together; then what still runs is cancelled, and the task fails",
    ),
    "max_restarts": ("a whole number", "how often, in one try, what failed in a way that can pass is started again"),
    "ignore_refused_starts": (
        "true or false",
        "succeed although Earth Engine has refused starts of the function's own: it deals with that",
    ),
    "max_active_operations": ("a whole number", "how many may be in Earth Engine at once; None for any number"),
    "queue_timeout": (DURATION, "how long is waited for room in the project's queue, while nothing is started"),
    "max_failures": ("a whole number, or a share below 1", "how many may fail without failing the task"),
    "cancel_on_kill": ("true or false", "cancel when the task is cleared or marked, or its run times out"),
    "cancel_on_timeout": (
        "true or false",
        "cancel when the time is over: `execution_timeout`, or the sensor's `timeout`",
    ),
    "cancel_on_failure": ("true or false", "cancel the others when more than `max_failures` have failed"),
    "stop_at_failure": (
        "true or false",
        "fail as soon as more than `max_failures` have failed; false waits for the others first",
    ),
    "not_found_ok": ("true or false", "an operation that Earth Engine does not know is no failure"),
    "older_than": (DURATION, "created, or started, longer ago than that, by Earth Engine's clock"),
    "age_since": ("a word", "from which time on ages are counted: `create_time` or `start_time`"),
    "description": ("a glob", "that the whole description matches"),
    "description_regex": ("a regular expression", "that is found in the description"),
    "types": ("one or several", "such as `EXPORT_IMAGE`"),
    "max_priority": ("0 to 9999", "of this priority or a lower one"),
    "min_eecu_seconds": ("EECU-seconds", "has used that many or more"),
    "states": ("one or several", "the states that are looked at"),
    "keep": ("one name or several", "operations that are never cancelled"),
    "orphaned": (
        "true or false",
        "what tasks have recorded as their own, and no task that could still want it is active",
    ),
    "airflow_conn_id": ("a connection's id", "to Airflow's own API server: for `orphaned` on Airflow 3"),
    "limit": ("a whole number", "how many are cancelled in one go, the oldest first; None for all"),
    "select_all": ("true or false", "allow criteria that select every operation of the project"),
    "dry_run": ("true or false", "only say what would be cancelled"),
}

#: What the signature does not tell.
CELLS = {
    ("timeout", "sensor"): "7 days (Airflow's)",
    ("workload_tag", "`@task.earth_engine`"): "made of the DAG's id †",
    ("workload_tag", "export"): "made of the DAG's id †",
    ("stop_at_failure", "import"): "as `cancel_on_failure` †",
    ("stop_at_failure", "`@task.earth_engine`"): "as `cancel_on_failure` †",
    ("stop_at_failure", "export"): "as `cancel_on_failure` †",
    ("not_found_ok", "janitor"): "`True` †",
    ("scope", "cancel"): "`upstream`",
    ("scope", "notifier"): "whose callback it is",
}

INTRODUCTION = """# Every parameter, method and result

Written by `make interface` from the classes themselves; a test compares the two. The same thing has the same name, unit
and shape everywhere. A cell is the default; † marks what is templated, and checked once it is rendered, before anything
is sent. What is not templated, though it could be: `deferrable`, which Airflow reads when it parses the DAG; `dry_run`,
whose name is a method of Airflow's operators; a sensor's `poll_interval` and `timeout`, which Airflow checks then; and
a notifier's numbers, since a callback that cannot be rendered would cancel nothing.

## Parameters

"""

AFTER_PARAMETERS = """
**When time is over.** A sensor's `timeout` fails it for good, as every sensor's does. The `cancel_timeout` of
an operator fails its task, and Airflow may retry it, since the cancel may still succeed. A notifier's ends its waiting,
and logs what is not confirmed. A hook's method raises `OperationTimeoutError`; `cancel_operations` and
`confirm_cancels` return what is not confirmed as `STILL_CANCELLING`. Exports have Airflow's own `execution_timeout`,
and no second name for it.

**When names are left out.** A sensor, and the hook, refuse that. The cancel operator cancels what the tasks that
lead to it have recorded; all of the run only with `scope="run"`. A notifier cancels what the task has recorded whose
callback it is, and, as a callback of a DAG or of a deadline, what its run has; `scope` says it in words. The janitor
refuses to run without a criterion. Names that are given, and are rendered to nothing, never stand for more: they skip
the task, or cancel nothing.
"""


def parameters_of(cls: Any) -> dict[str, inspect.Parameter]:
    """Return the parameters that a class and its bases of this package have; an operator lists its own."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("airflow_ee_provider") and "__init__" in vars(base):
            for name, parameter in inspect.signature(base.__init__).parameters.items():
                is_named = parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
                if is_named and name != "self":
                    found.setdefault(name, parameter)
            if base.__module__.startswith("airflow_ee_provider.operators"):
                break
    return found


def type_of(parameter: inspect.Parameter) -> str:
    """Return a parameter's type without what only templates and absence add to it."""
    parts = {part.strip() for part in str(parameter.annotation).split("|")} - {"None"}
    return " | ".join(sorted(parts - {"str"} or parts))


def _cell(name: str, heading: str, cls: Any) -> str:
    if (name, heading) in CELLS:
        return CELLS[name, heading]
    parameter = parameters_of(cls).get(name)
    if parameter is None:
        return ""
    templated = " †" if name in getattr(cls, "template_fields", ()) else ""
    if parameter.default is parameter.empty:
        return f"required{templated}"
    if name == "deferrable":
        return "as Airflow says"
    if parameter.default is NotGiven:
        return f"see below{templated}"
    shown = {None: "none", (): "none", "": "none"}.get(parameter.default)
    value = parameter.default
    text = (
        f"`{value:g}`" if isinstance(value, float) else f"`{', '.join(value) if isinstance(value, tuple) else value}`"
    )
    return f"{shown or text}{templated}"


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


#: The hooks' methods that are for the tasks of this package.
FOR_TASKS = ("start_once", "start_all", "cancel_what_is_left", "read_operations", "wait_for_room")


def _methods() -> str:
    """Return a table of what a DAG's author calls."""
    rows = []
    for name in vars(Methods):
        method = getattr(EarthEngineHook, name)
        if name.startswith("_") or name in FOR_TASKS or not inspect.isfunction(method):
            continue
        signature = inspect.signature(method)
        arguments = ", ".join(
            f"{p.name}={p.default:g}" if isinstance(p.default, float) else str(p).partition(":")[0] + _default(p)
            for p in list(signature.parameters.values())[1:]
        )
        rows.append([f"`{name}({arguments})`", f"`{signature.return_annotation}`".replace("|", "\\|")])
    return _table(["method", "returns"], rows)


def _default(parameter: inspect.Parameter) -> str:
    return "" if parameter.default is parameter.empty else f"={parameter.default}"


def _shapes() -> str:
    """Return a table for each `TypedDict`, with the comments that its source has."""
    source = inspect.getsource(results)
    parts = []
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        rows = []
        for field in node.body:
            if isinstance(field, ast.AnnAssign):
                comment = []
                for line in reversed(source.splitlines()[: field.lineno - 1]):
                    if not (match := re.match(r"\s+#: ?(.*)", line)):
                        break
                    comment.insert(0, match[1])
                kind = ast.unparse(field.annotation).replace("|", "\\|")
                rows.append([f"`{ast.unparse(field.target)}`", f"`{kind}`", " ".join(comment)])
        parts.append(f"### `{node.name}`\n\n{ast.get_docstring(node)}\n\n{_table(['field', 'type', ''], rows)}")
    return "\n".join(parts)


def page() -> str:
    """Return the whole page."""
    rows = [
        [f"`{name}`", kind, meaning, *(_cell(name, heading, cls) for heading, cls in CLASSES.items())]
        for name, (kind, meaning) in PARAMETERS.items()
    ]
    outcomes = "\n".join(f"- `{outcome.value}`" for outcome in CancelOutcome)
    parts = [
        INTRODUCTION,
        _table(["", "type, unit", "meaning", *CLASSES], rows),
        AFTER_PARAMETERS,
        "\n## The hooks' methods\n\nThe same in `EarthEngineHook` and, as coroutines, in `EarthEngineAsyncHook`. Each ",
        "raises\n`EarthEngineError`; `help()` has the rest.\n\n",
        _methods(),
        "\n## Results\n\nWhat tasks return, what XComs and events hold, and what `as_dict()` of a hook's `Operation` ",
        "and `CancelResult` gives; the types\nare in `airflow_ee_provider.earth_engine.model.results`.\n\n",
        _shapes(),
        f"\nThe outcomes are stable words; the log has them in lower case.\n\n{outcomes}\n",
    ]
    return "".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
