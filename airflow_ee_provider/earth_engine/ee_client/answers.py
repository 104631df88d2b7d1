"""Results of the client's calls for registered starts. Reading a result starts the operation first, if necessary."""

from __future__ import annotations

from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class OfStarted:
    """An attribute that an ``ee.batch.Task`` gets when it is started: ``id`` or ``name``.

    :param before: Called with the task before each read.
    """

    def __init__(self, name: str, before: Callable[[Any], None]) -> None:
        self._name, self._before = name, before

    def __get__(self, task: Any, owner: Any = None) -> Any:
        if task is None:
            return self
        self._before(task)
        return vars(task).get(self._name)

    def __set__(self, task: Any, value: Any) -> None:
        vars(task)[self._name] = value


def fill(task: Any, name: str) -> None:
    """Set a task's id and name to those of its operation, as ``Task.start`` does."""
    vars(task).update(id=name.rpartition("/")[2], name=name)


def operation(name: str) -> dict[str, Any]:
    """Return the operation as the client returns it for an export."""
    import ee

    with suppress(ee.EEException):  # The function's session may have ended.
        if name and ee.data.is_initialized():
            return dict(ee.data.getOperation(name))
    return {"name": name}


def ingestion(name: str) -> dict[str, Any]:
    """Return the dict that the client returns for an ingestion."""
    return {"id": name.rpartition("/")[2], "name": name, "started": "OK"}


class Answer(dict[str, Any]):
    """The dict that a call of the client returns for a registered start. Its contents are read on the first access.

    :param shape: The contents until then; not empty, because C code reads a dict's size without calling its methods.
    :param read: Returns the contents.
    """

    def __init__(self, shape: dict[str, Any], read: Callable[[], dict[str, Any]]) -> None:
        super().__init__(shape)
        self._read: Callable[[], dict[str, Any]] | None = read

    def __bool__(self) -> bool:
        return True

    def _fill(self) -> None:
        if read := self._read:
            contents = read()
            self._read = None
            dict.update(self, contents)


def _filled(name: str) -> Callable[..., Any]:
    of_dict = getattr(dict, name)

    @wraps(of_dict)
    def filled(answer: Answer, *args: Any, **kwargs: Any) -> Any:
        answer._fill()  # noqa: SLF001 (it is a method of the class)
        return of_dict(answer, *args, **kwargs)

    return filled


for _name in (
    "__contains__",
    "__delitem__",
    "__eq__",
    "__getitem__",
    "__ior__",
    "__iter__",
    "__len__",
    "__ne__",
    "__or__",
    "__repr__",
    "__reversed__",
    "__ror__",
    "__setitem__",
    "clear",
    "copy",
    "get",
    "items",
    "keys",
    "pop",
    "popitem",
    "setdefault",
    "update",
    "values",
):
    setattr(Answer, _name, _filled(_name))
