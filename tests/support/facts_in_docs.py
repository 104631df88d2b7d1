"""The reference pages that are not about a class: results, errors, configuration, command line."""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any

from docstrings import markdown

from airflow_ee_provider import get_provider_info
from airflow_ee_provider.cli.definition import get_earth_engine_cli_commands
from airflow_ee_provider.earth_engine.model import errors as error_classes
from airflow_ee_provider.earth_engine.model import results as shapes
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
from airflow_ee_provider.earth_engine.protocol import cancelling
from airflow_ee_provider.earth_engine.protocol.cancelling import CancelOutcome
from airflow_ee_provider.earth_engine.protocol.error_rules import REMEDIES, RULES

RESULTS = """# Results and XComs

The types are in `airflow_ee_provider.earth_engine.model.results`. Tasks return them, XComs contain them, and a hook's
`Operation.as_dict()` and `CancelResult.as_dict()` return them.

## XComs

- **`return_value`**: the task's result; see the page of its class.
- **`operations`**: the list of all operations of an export or import task, each an `OperationDict`.
- **`operation_names`**: the list of their names.
- **`earth_engine_tasks_link`**, **`earth_engine_output_link`**: the addresses behind the task's links *Earth Engine
  Tasks* and *Export Output*.

Keys that start with `_earth_engine` are internal and can change.
"""


def results() -> str:
    """Return the page about results, from the comments in their source."""
    parts = [RESULTS.strip()]
    source = inspect.getsource(shapes)
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            fields = [
                f"- **`{ast.unparse(field.target)}`** (`{ast.unparse(field.annotation)}`)"
                + (f": {text}" if (text := _comment_above(source, field.lineno)) else "")
                for field in node.body
                if isinstance(field, ast.AnnAssign)
            ]
            parts += [f"## `{node.name}`", markdown(ast.get_docstring(node) or ""), "\n".join(fields)]
    meanings = inspect.getsource(cancelling)
    outcomes = [
        f"- `{outcome.value}`: {_comment_above(meanings, _line_of(meanings, outcome.name))}"
        for outcome in CancelOutcome
    ]
    parts += ["## Outcomes of a cancel", "Logs and metrics have them in lower case.", "\n".join(outcomes)]
    return "\n\n".join(parts)


def _line_of(source: str, name: str) -> int:
    return next(number for number, line in enumerate(source.splitlines(), 1) if re.match(rf"\s+{name} = ", line))


def _comment_above(source: str, line_number: int) -> str:
    """Return the ``#:`` comment above a line."""
    comment: list[str] = []
    for line in reversed(source.splitlines()[: line_number - 1]):
        if not (match := re.match(r"\s+#: ?(.*)", line)):
            break
        comment.insert(0, match[1])
    return markdown(" ".join(comment))


ERRORS = """# Errors

The classes are in `airflow_ee_provider.earth_engine.model.errors`. The hooks raise them. A task raises
`AirflowFailException` instead of a permanent error, so that Airflow does not retry it, and `AirflowException` instead
of a transient one. Each message has the operation's name, what happened, and what to do.
[Troubleshooting](../troubleshooting.md) explains common messages.
"""


def errors() -> str:
    """Return the page about errors."""
    parts = [
        ERRORS.strip(),
        "## Classes",
        "\n".join(
            f"- **`{name}`** ({'permanent' if cls.permanent else 'transient'}): {' '.join((cls.__doc__ or '').split())}"
            for name, cls in vars(error_classes).items()
            if inspect.isclass(cls) and issubclass(cls, EarthEngineError) and cls is not EarthEngineError
        ),
        "All of them are an `EarthEngineError`, with these attributes:",
        "\n".join(f"- **`{name}`**: {text}" for name, text in _attributes()),
        "## HTTP errors",
        "\n".join(f"- {rule.http_status} `{rule.status}`: `{rule.error.__name__}`" for rule in RULES),
        "## What to do",
        "The message of an error ends with one of these sentences, if it applies.",
        "\n".join(f"- {remedy.text}" for remedy in REMEDIES),
    ]
    return "\n\n".join(parts)


def _attributes() -> list[tuple[str, str]]:
    doc = inspect.cleandoc(EarthEngineError.__doc__ or "")
    found = re.findall(r"^:param (\w+): (.*?)(?=^:|\Z)", doc, re.MULTILINE | re.DOTALL)
    return [(name, markdown(" ".join(text.split()))) for name, text in found]


EXAMPLES = {
    "allowed_hosts": "earthengine.example.com",
    "allow_external_accounts": "True",
    "connections": "earth_engine_default,earth_engine_reports",
    "cancel_orphans": "False",
    "cancel_orphans_after": "120",
    "eecu_hour_price": "0.4",
    "currency": "EUR",
}


CONFIGURATION = """# Configuration

The options are in the section `[earth_engine]` of `airflow.cfg`. As an environment variable, an option is
`AIRFLOW__EARTH_ENGINE__` and its name in capitals, for example `AIRFLOW__EARTH_ENGINE__CANCEL_ORPHANS`. The fields of a
connection are in [The connection](../connection.md).
"""


def configuration() -> str:
    """Return the page about the options in Airflow's configuration."""
    options = get_provider_info()["config"]["earth_engine"]["options"]
    lines = [
        f"- **`{name}`** (`{option['type']}`, default {_shown(option['default'])}): {markdown(option['description'])} "
        f"Example: `{EXAMPLES[name]}`."
        for name, option in options.items()
    ]
    parts = [
        CONFIGURATION.strip(),
        "\n".join(lines),
    ]
    return "\n\n".join(parts)


def _shown(default: str) -> str:
    return f"`{default}`" if default else "none"


COMMAND_LINE = """# Command line

`airflow earth-engine` exists from Airflow 3.2 on; `python -m airflow_ee_provider` works on all versions. Both read
Airflow's database, so run them where Airflow's own command line runs. Logs go to standard error. The exit code is 0, 1
as written below, or 2 for wrong arguments and for a question that nothing can answer: without a terminal, use `--yes`.

```console
$ airflow earth-engine list --dag-id ndvi --older-than 6h
$ airflow earth-engine cancel --description 'ndvi-*' --state PENDING
$ airflow earth-engine orphans --output name
```
"""


def command_line() -> str:
    """Return the page about the commands."""
    [group] = get_earth_engine_cli_commands()
    parts = [COMMAND_LINE.strip()]
    for command in group.subcommands:  # type: ignore[union-attr]
        parts += [f"## `{command.name}`", f"{command.help}.", "\n".join(map(_argument, command.args))]  # type: ignore[union-attr]
    return "\n\n".join(parts)


def _argument(argument: Any) -> str:
    kwargs = argument.kwargs
    metavar = kwargs.get("metavar") or "" if argument.flags[0].startswith("-") else kwargs["metavar"]
    name = ", ".join(f"`{flag}`" for flag in argument.flags) if argument.flags[0].startswith("-") else f"`{metavar}`"
    text = kwargs["help"] % {"default": kwargs.get("default")}
    choices = f" One of {', '.join(f'`{choice}`' for choice in kwargs['choices'])}." if kwargs.get("choices") else ""
    return f"- **{name}**: {text}.{choices}"
