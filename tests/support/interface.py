"""``make interface``: writes the reference, ``docs/reference``, from the classes: a page for each, and others.

Parameters, types and defaults come from the signatures, texts from the docstrings; `EXAMPLES` has a value for each
parameter, and a test makes the classes with it.
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docstrings import described, markdown
from examples_in_docs import filled
from facts_in_docs import command_line, configuration, errors, results

from airflow_ee_provider.base.parameters import NotGiven
from airflow_ee_provider.client import earth_engine
from airflow_ee_provider.decorators.earth_engine import _EarthEngineDecoratedOperator, earth_engine_task
from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook, EarthEngineHook
from airflow_ee_provider.hooks.methods import Methods
from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.operators.earth_engine import (
    EarthEngineCancelOperationsOperator,
    EarthEngineCancelStaleOperationsOperator,
    EarthEngineExportOperator,
    EarthEngineImportOperator,
)
from airflow_ee_provider.records import record_operations, resume_operations
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).parents[2] / "docs" / "reference"

#: The classes whose parameters the reference lists, by a short name.
CLASSES: dict[str, Any] = {
    "@task.earth_engine": _EarthEngineDecoratedOperator,
    "export": EarthEngineExportOperator,
    "import": EarthEngineImportOperator,
    "sensor": EarthEngineOperationsSensor,
    "cancel": EarthEngineCancelOperationsOperator,
    "stale": EarthEngineCancelStaleOperationsOperator,
    "notifier": EarthEngineCancelOperationsNotifier,
    "hook": EarthEngineHook,
}

#: An example value for each parameter.
EXAMPLES = {
    "operation_names": '"projects/my-project/operations/FNVLBTDLZP474YXJJ7QLFRMH"',
    "scope": '"run"',
    "kind": '"image"',
    "body": '"export.json"',
    "manifest": '"manifest.json"',
    "overwrite": "True",
    "earth_engine_conn_id": '"earth_engine_reports"',
    "project_id": '"my-project"',
    "impersonation_chain": '"exporter@my-project.iam.gserviceaccount.com"',
    "workload_tag": '"ndvi"',
    "priority": "50",
    "wait_for_completion": "False",
    "poll_interval": "timedelta(minutes=1)",
    "timeout": "timedelta(hours=12).total_seconds()",
    "cancel_timeout": "timedelta(minutes=20)",
    "deferrable": "True",
    "max_eecu_seconds": "3600",
    "max_total_eecu_seconds": "36_000",
    "max_restarts": "2",
    "ignore_refused_starts": "True",
    "batch_starts": "True",
    "max_active_operations": "500",
    "queue_timeout": "timedelta(hours=2)",
    "max_failures": "0.05",
    "cancel_on_kill": "False",
    "cancel_on_timeout": "False",
    "cancel_on_failure": "False",
    "stop_at_failure": "False",
    "not_found_ok": "True",
    "older_than": "timedelta(hours=12)",
    "age_since": '"start_time"',
    "description": '"ndvi-*"',
    "description_regex": '"^ndvi-20[0-9]{2}"',
    "types": '["EXPORT_IMAGE"]',
    "max_priority": "50",
    "min_eecu_seconds": "3600",
    "states": '"PENDING"',
    "keep": '["projects/my-project/operations/FNVLBTDLZP474YXJJ7QLFRMH"]',
    "orphaned": "True",
    "airflow_conn_id": '"airflow_api"',
    "limit": "100",
    "select_all": "True",
    "dry_run": "True",
}
#: Example values that differ for a class, as its defaults do.
FLIPPED = {"sensor": {"cancel_on_kill": "True", "cancel_on_timeout": "True", "cancel_on_failure": "True"}}

#: Defaults that the signature does not have.
DEFAULTS = {
    "deferrable": "`[operators] default_deferrable`",
    "workload_tag": "made from the DAG's id",
    "timeout": "7 days",
}

#: Types that are shown simpler than in the signature.
TYPES = {
    "operation_names": "str | list[str]",
    "names": "str | list[str]",
    "name": "str",
    "body": "dict | str",
    "manifest": "dict | str",
    "impersonation_chain": "str | list[str]",
    "states": "str | list[str]",
    "types": "str | list[str]",
    "keep": "str | list[str]",
}

#: The text about the ``timeout`` of Airflow's sensors.
TIMEOUT = "Maximum time to wait, in seconds. After it, the sensor fails without a retry, as all Airflow sensors do."


@dataclass(frozen=True)
class Page:
    """A page about one class or function."""

    file: str
    title: str
    path: str
    described: Any
    name: str = ""
    example: str = ""


def _code(text: str) -> str:
    return f"```python\n{inspect.cleandoc(text)}\n```"


PAGES = (
    Page(
        "task-earth-engine",
        "`@task.earth_engine`",
        "from airflow.sdk import task",
        earth_engine_task,
        "@task.earth_engine",
        "<!-- example_dags/example_earth_engine_export.py -->\n```python\n```",
    ),
    Page(
        "export-operator",
        "`EarthEngineExportOperator`",
        "from airflow_ee_provider.operators.earth_engine import EarthEngineExportOperator",
        EarthEngineExportOperator,
        "export",
        _code("""
        EarthEngineExportOperator(
            task_id="export",
            kind="image",
            body={
                "description": "ndvi",
                "expression": {"result": "0", "values": {"0": {"constantValue": 1}}},
                "fileExportOptions": {"cloudStorageDestination": {"bucket": "my-bucket"}},
            },
            deferrable=True,
        )"""),
    ),
    Page(
        "import-operator",
        "`EarthEngineImportOperator`",
        "from airflow_ee_provider.operators.earth_engine import EarthEngineImportOperator",
        EarthEngineImportOperator,
        "import",
        _code("""
        EarthEngineImportOperator(
            task_id="import",
            kind="image",
            manifest={
                "name": "projects/my-project/assets/ndvi",
                "tilesets": [{"sources": [{"uris": ["gs://my-bucket/ndvi.tif"]}]}],
            },
            deferrable=True,
        )"""),
    ),
    Page(
        "sensor",
        "`EarthEngineOperationsSensor`",
        "from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor",
        EarthEngineOperationsSensor,
        "sensor",
        "<!-- example_dags/example_earth_engine_cancel.py#example_earth_engine_cancel_on_kill -->\n```python\n```",
    ),
    Page(
        "cancel-operator",
        "`EarthEngineCancelOperationsOperator`",
        "from airflow_ee_provider.operators.earth_engine import EarthEngineCancelOperationsOperator",
        EarthEngineCancelOperationsOperator,
        "cancel",
        "<!-- example_dags/example_earth_engine_cancel.py#example_earth_engine_cancel_operator -->\n```python\n```",
    ),
    Page(
        "stale-operations-operator",
        "`EarthEngineCancelStaleOperationsOperator`",
        "from airflow_ee_provider.operators.earth_engine import EarthEngineCancelStaleOperationsOperator",
        EarthEngineCancelStaleOperationsOperator,
        "stale",
        "<!-- example_dags/example_earth_engine_janitor.py -->\n```python\n```",
    ),
    Page(
        "notifier",
        "`EarthEngineCancelOperationsNotifier`",
        "from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier",
        EarthEngineCancelOperationsNotifier,
        "notifier",
        "<!-- example_dags/example_earth_engine_cancel.py#example_earth_engine_cancel_on_failure -->\n```python\n```",
    ),
)


def parameters_of(cls: Any) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class and its bases in this package; for an operator, those of its own class only."""
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
    """Return a parameter's type, without the ``str`` of a template and without ``None``."""
    parts = {part.strip() for part in str(parameter.annotation).split("|")} - {"None"}
    return " | ".join(sorted(parts - {"str"} or parts))


def example_of(name: str, kind: str) -> str:
    """Return a parameter's example value, as code."""
    return FLIPPED.get(kind, {}).get(name, EXAMPLES.get(name, ""))


def _parameter(name: str, parameter: inspect.Parameter, text: str, *, templated: bool, example: str) -> str:
    about = [f"`{TYPES.get(name) or type_of(parameter)}`"] if parameter.annotation is not parameter.empty else []
    about.append("required" if _is_required(parameter) else f"default {_default(name, parameter)}")
    if templated:
        about.append("templated")
    shown = f" Example: `{name}={example}`." if example else ""
    return f"- **`{name}`** ({', '.join(about)}): {text}{shown}"


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty


def _default(name: str, parameter: inspect.Parameter) -> str:
    if name in DEFAULTS:
        return DEFAULTS[name]
    value = parameter.default
    if value is NotGiven:
        return "not set"
    if isinstance(value, tuple):
        return f"`{list(value)}`".replace("'", '"')
    if isinstance(value, float):
        return f"`{value:g}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _parameters(page: Page, texts: dict[str, str]) -> list[str]:
    cls = CLASSES[page.name]
    templated = getattr(cls, "template_fields", ())
    found = parameters_of(cls)
    lines = [
        _parameter(name, one, texts[name], templated=name in templated, example=example_of(name, page.name))
        for name, one in found.items()
    ]
    if page.name == "sensor":
        lines.append(f"- **`timeout`** (`float`, default 7 days): {TIMEOUT} Example: `timeout={EXAMPLES['timeout']}`.")
    if page.name == "@task.earth_engine":
        lines.append(f"- **`multiple_outputs`** (`bool`, default `None`): {texts['multiple_outputs']}")
    return lines


def class_page(page: Page) -> str:
    """Return the page about a class with parameters."""
    about = described(page.described)
    parts = [
        f"# {page.title}",
        about.text,
        _code(page.path).replace("```python", "```py"),
        page.example,
        "## Parameters",
    ]
    if page.name != "notifier":
        parts.append("All parameters of Airflow's tasks also work, for example `retries` and `execution_timeout`.")
    parts += ["\n".join(_parameters(page, about.parameters)), *_raised(about.raises)]
    return "\n\n".join(filter(None, parts))


def _raised(raises: dict[str, str]) -> list[str]:
    return ["## Errors", "\n".join(f"- `{name}`: {text}" for name, text in raises.items())] if raises else []


def _signature(function: Callable[..., Any], *, method: bool) -> str:
    parameters = list(inspect.signature(function).parameters.values())[1 if method else 0 :]
    if len(parameters) > 7:
        return "…"
    return ", ".join(one.name if _is_required(one) else f"{one.name}=…" for one in parameters)


def _function(name: str, function: Callable[..., Any], level: str, *, method: bool) -> str:
    about = described(function)
    found = inspect.signature(function)
    lines = [
        _parameter(one, parameter, about.parameters[one], templated=False, example="")
        for one, parameter in found.parameters.items()
        if one in about.parameters
    ]
    returned = str(found.return_annotation)
    lines += [f"- **Returns** `{returned}`. {about.returns}".rstrip()] if returned not in ("None", "") else []
    lines += [f"- **Raises** `{error}`: {text}" for error, text in about.raises.items()]
    return "\n\n".join(
        [f"{level} `{name}({_signature(function, method=method)})`", about.text, "\n".join(lines)]
    ).strip()


#: The hooks' methods that only this package's tasks use.
FOR_TASKS = ("start_once", "start_all", "cancel_what_is_left", "read_operations", "wait_for_room")


AS_DICT = """`as_dict()` of an `Operation` returns an [`OperationDict`](results.md#operationdict); of a `CancelResult`,
a [`CancelDict`](results.md#canceldict)."""


def hooks_page() -> str:
    """Return the page about the hooks and their methods."""
    about, others = described(EarthEngineHook), described(EarthEngineAsyncHook)
    methods = [
        _function(name, getattr(EarthEngineHook, name), "###", method=True)
        for name in vars(Methods)
        if not name.startswith("_") and name not in FOR_TASKS and inspect.isfunction(getattr(EarthEngineHook, name))
    ]
    example = """
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

    hook = EarthEngineHook("earth_engine_default")
    operation = hook.get_operation("projects/my-project/operations/FNVLBTDLZP474YXJJ7QLFRMH")
    print(operation.as_dict())
    """
    parts = [
        "# Hooks",
        f"**`EarthEngineHook`**: {about.text}",
        f"**`EarthEngineAsyncHook`**: {others.text}",
        _code(example).replace("```python", "```py"),
        AS_DICT,
        "## Parameters",
        "\n".join(_parameters(Page("", "", "", EarthEngineHook, "hook"), about.parameters)),
        "## Methods",
        *methods,
    ]
    return "\n\n".join(parts)


def functions_page() -> str:
    """Return the page about functions for an author's own code."""
    parts = [
        "# Functions",
        "Functions for your own code. The fixture `earth_engine_emulator` is in [Test your DAGs](../testing.md).",
        "`from airflow_ee_provider.client import earth_engine`",
        _function("earth_engine", inspect.unwrap(earth_engine), "##", method=False),
        "`from airflow_ee_provider.records import record_operations, resume_operations`",
        _function("record_operations", record_operations, "##", method=False),
        _function("resume_operations", resume_operations, "##", method=False),
    ]
    return "\n\n".join(parts)


OTHERS: dict[str, tuple[str, Callable[[], str]]] = {
    "hooks": ("Earth Engine's methods, for your own code.", hooks_page),
    "functions": ("`earth_engine`, `record_operations` and `resume_operations`.", functions_page),
    "results": ("Results, XComs and outcomes.", results),
    "errors": ("Error classes, and Earth Engine's HTTP errors.", errors),
    "configuration": ("Options of `airflow.cfg`.", configuration),
    "command-line": ("`airflow earth-engine`.", command_line),
}

INDEX = """# Reference

`make interface` writes these pages from the classes.

**Templates.** Parameters that are marked as templated are checked when they are rendered, before any request. Airflow
reads `deferrable` when it parses the DAG, so it is not templated. `dry_run` is not, because Airflow's operators have a
method of that name. Nor are a sensor's `poll_interval` and `timeout`, and a notifier's numbers.

**Time limits.** A sensor's `timeout` fails it without a retry. An operator's `cancel_timeout` fails the task, and
Airflow may retry it. A notifier's `cancel_timeout` ends its waiting, and it logs the cancels that are not confirmed. A
hook's methods raise `OperationTimeoutError`; `cancel_operations` and `confirm_cancels` return the outcome
`STILL_CANCELLING`. Exports have Airflow's `execution_timeout`.

**Empty names.** If a template renders `operation_names` to an empty value, the task is skipped, or the notifier cancels
nothing. It never means *all operations*.

"""


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", text.replace("\n", " "))[0].partition(" It needs the extra")[0]


def pages() -> dict[str, str]:
    """Return all pages by file name."""
    listed = [f"- [{page.title}]({page.file}.md): {_first_sentence(described(page.described).text)}" for page in PAGES]
    listed += [f"- [{_title(render())}]({file}.md): {text}" for file, (text, render) in OTHERS.items()]
    listed.append("- [Metrics](../metrics.md): Counters, timings and gauges.")
    found = {page.file: class_page(page) for page in PAGES}
    found |= {file: render() for file, (_, render) in OTHERS.items()}
    texts = {f"{file}.md": filled(text.strip() + "\n") for file, text in found.items()}
    return {"index.md": INDEX + "\n".join(listed) + "\n", **texts}


def _title(text: str) -> str:
    return markdown(text.splitlines()[0].removeprefix("# "))


if __name__ == "__main__":
    for file, text in pages().items():
        (Path(sys.argv[1]) / file).write_text(text, encoding="utf-8")
