"""Parameters agree in all classes, the reference is up to date, and the documents use only existing parameters."""

from __future__ import annotations

import ast
import inspect
import re
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator, BaseSensorOperator
from interface import CLASSES, EXAMPLES, FOLDER, example_of, pages, parameters_of, type_of
from pages import BLOCKS, ROOT

#: The classes of this package that documents and examples call, by name.
CALLED = {cls.__name__: cls for cls in CLASSES.values()} | {"task.earth_engine": CLASSES["@task.earth_engine"]}


def test_reference_pages_match_the_classes() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}

    assert written == pages(), "Run `make interface`."


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind != "@task.earth_engine"])
def test_each_example_of_a_parameter_is_accepted(kind: str) -> None:
    cls = CLASSES[kind]
    required = {name: EXAMPLES[name] for name, one in parameters_of(cls).items() if one.default is one.empty}
    for name in parameters_of(cls):
        values = required | {name: example_of(name, kind)}
        given = {one: eval(text, {"timedelta": timedelta}) for one, text in values.items()}  # noqa: S307

        cls(**given, **({"task_id": "a"} if issubclass(cls, BaseOperator) else {}))


def test_each_parameter_has_an_example_and_each_example_a_parameter() -> None:
    assert {name for cls in CLASSES.values() for name in parameters_of(cls)} | {"timeout"} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_parameter_is_of_the_same_type_in_every_class(name: str) -> None:
    parameters = [parameters_of(cls).get(name) for cls in CLASSES.values()]

    assert len({type_of(parameter) for parameter in parameters if parameter is not None}) <= 1


@pytest.mark.parametrize("cls", CLASSES.values(), ids=lambda cls: cls.__name__)
def test_every_parameter_is_documented(cls: Any) -> None:
    text = " ".join(inspect.getdoc(base) or "" for base in cls.__mro__ if base.__module__.startswith("airflow_ee"))

    missing = [name for name in parameters_of(cls) if f":param {name}:" not in text and f"``{name}``" not in text]

    assert missing == []


@pytest.mark.parametrize("cls", CLASSES.values(), ids=lambda cls: cls.__name__)
def test_templated_parameters_are_documented_as_templated(cls: Any) -> None:
    text = " ".join((inspect.getdoc(base) or "") for base in cls.__mro__ if base.__module__.startswith("airflow_ee"))
    for name in set(getattr(cls, "template_fields", ())) & set(parameters_of(cls)):
        described = re.search(rf":param {name}:(.*?)(?=:param|:raises|$)", text, flags=re.DOTALL)
        assert described is None or "templated" in described[1], name


def keywords_used(source: str) -> dict[str, set[str]]:
    """Return the keyword arguments of calls to this package's classes, by called name."""
    used: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and (called := ast.unparse(node.func).removesuffix(".partial")) in CALLED:
            used.setdefault(called, set()).update(keyword.arg for keyword in node.keywords if keyword.arg)
    return used


SOURCES = BLOCKS | {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "example_dags").glob("*.py")}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_examples_and_documents_use_only_existing_parameters(source: str) -> None:
    of_airflow = {
        name
        for base in (BaseOperator, BaseSensorOperator)
        for name in inspect.signature(base.__init__).parameters
        if name not in ("self", "kwargs")
    }
    for called, keywords in keywords_used(source).items():
        known = set(parameters_of(CALLED[called])) | of_airflow
        assert keywords <= known, called
