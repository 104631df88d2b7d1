"""Find the operations in a function's return value: the official client's export tasks, operations and names.

Follows ``ee.batch.Task`` and https://developers.google.com/earth-engine/apidocs/export-image-tocloudstorage
"""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ee_provider.earth_engine.model.errors import InvalidRequestError
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.model.results import OperationDict
from airflow_ee_provider.earth_engine.protocol.starting import Export, Start

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

#: The API's kind of export for each ``ee.batch.Task.task_type``.
KINDS = {
    "EXPORT_IMAGE": "image",
    "EXPORT_FEATURES": "table",
    "EXPORT_VIDEO": "video",
    "EXPORT_TILES": "map",
    "EXPORT_CLASSIFIER": "classifier",
}

#: The form of the bare ids that Earth Engine assigns. A string of another form is not treated as a bare id.
_ID = re.compile(r"[A-Z2-7]{24}")

_NAME = re.compile(r"projects/[^/\s]+/operations/[^/\s]+")

#: The fields of an operation as plain JSON: in the API, in ``task.status()``, in the response to an ingestion, and
#: in an `OperationDict`.
_SHAPES = (
    frozenset({"name", "metadata", "done", "error", "response"}),
    frozenset({"id", "name", "state", "description", "priority", "task_type", "attempt", "error_message", "progress"})
    | {"creation_timestamp_ms", "update_timestamp_ms", "start_timestamp_ms", "destination_uris", "stages", "script_uri"}
    | {"batch_eecu_usage_seconds"},
    frozenset({"id", "name", "started", "note"}),
    frozenset(OperationDict.__annotations__),
)


class Returned(NamedTuple):
    """A function's return value.

    :param value: The value, with a placeholder (`place_of`) instead of each operation.
    :param operations: The operations of the placeholders, in the order of their numbers; then the operations whose
        names the value contains. The task adopts these.
    """

    value: Any
    operations: list[Export | Start | OperationName]


def place_of(number: int) -> dict[str, int]:
    """Return the placeholder for an operation in a function's value: plain JSON that no other value has."""
    return {PLACE: number}


#: The only key of a placeholder.
PLACE = "__earth_engine_operation__"


def with_operations(value: Any, operation_at: Callable[[int], Any]) -> Any:
    """Return a function's value with its placeholders replaced by operations.

    :param operation_at: Returns the operation for a placeholder's number.
    """
    if isinstance(value, Mapping):
        if set(value) == {PLACE}:
            return operation_at(value[PLACE])
        return _mapped(value, {key: with_operations(item, operation_at) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return _listed(value, [with_operations(item, operation_at) for item in value])
    return value


def read_value(
    returned: Any,
    project: str,
    own: Collection[str],
    start_of: Callable[[Any], Start | None] = lambda _: None,
) -> Returned:
    """Find the operations in a function's return value: export tasks, started or not, operations and names, nested.

    :param project: The Cloud project of bare ids, and the one in which exports that are not started yet will run.
    :param own: The names of the operations that the task has started.
    :param start_of: Returns the start that is registered for an object; None for any other object.
    :raises InvalidRequestError: If the value contains an operation object that the task has not started, or contains
        itself.
    """
    reader = _Reader(project, own, start_of)
    try:
        value = reader.read(returned)
    except RecursionError:
        raise InvalidRequestError(
            "The function's return value contains itself, so that no XCom can store it.",
            remedy="Return a value without the circular reference.",
        ) from None
    return Returned(value, [*reader.placed, *reader.named])


class _Reader:
    def __init__(self, project: str, own: Collection[str], start_of: Callable[[Any], Start | None]) -> None:
        self._project, self._own, self._start_of = project, own, start_of
        self.placed: list[Export | Start | OperationName] = []
        self.named: list[OperationName] = []

    def read(self, value: Any) -> Any:
        """Return a value with its operations replaced; a value without operations is returned as the same object."""
        if value is None or isinstance(value, (bool, int, float, bytes, bytearray)):
            return value
        if isinstance(value, str):
            if _NAME.fullmatch(value) or _ID.fullmatch(value):
                self.named.append(OperationName.parse(value, self._project))
            return value
        if (operation := self._operation(value)) is not None:
            self.placed.append(operation)
            return place_of(len(self.placed) - 1)
        if isinstance(value, Mapping):
            # An operation from a list contains its own name. The task does not adopt it for that.
            shown = ("name", "id") if _named_in(value) else ()
            items = {key: item if key in shown else self.read(item) for key, item in value.items()}
            return _mapped(value, items)
        if isinstance(value, (list, tuple)):
            return _listed(value, [self.read(item) for item in value])
        if isinstance(value, (set, frozenset)):
            members = list(value)
            read = [self.read(member) for member in members]
            return value if _same(members, read) else read
        if isinstance(value, (Iterator, KeysView, ValuesView, ItemsView)):
            return [self.read(item) for item in value]
        return value

    def _operation(self, value: Any) -> Export | Start | OperationName | None:
        """Return the operation that an object represents; None if it represents no operation of this task."""
        if (start := self._start_of(value)) is not None:
            return start
        if isinstance(value, OperationName):
            return value
        if isinstance(value, Mapping):
            # A dict with any other field is the function's own data: it is not replaced.
            is_plain = any(shape.issuperset(value) for shape in _SHAPES)
            full = self._full(_named_in(value)) if is_plain else ""
            return OperationName.parse(full) if full in self._own else None
        name = getattr(value, "name", None)
        if hasattr(value, "task_type") and hasattr(value, "config"):
            name = name or value.id
            return self._listed(str(name)) if name else _export_of(value, self._project)
        # An export task of another client library, such as ee-client.
        return OperationName.parse(name) if isinstance(name, str) and _NAME.fullmatch(name) else None

    def _full(self, text: str) -> str:
        return text if "/" in text or not text else str(OperationName.parse(text, self._project))

    def _listed(self, text: str) -> OperationName:
        """Return the name of an operation that the task has started.

        :raises InvalidRequestError: If the task has not started it. A list contains operations of all users.
        """
        by_id = {name.rpartition("/")[2]: name for name in self._own}
        parsed = OperationName.parse(by_id.get(text, text), self._project)
        if str(parsed) not in self._own:
            raise InvalidRequestError(
                "The function returned an operation that it has not started. A list contains operations of all users.",
                subject=str(parsed),
                remedy="If this task has to own and cancel it, return its name as a string.",
            )
        return parsed


def _named_in(value: Mapping[Any, Any]) -> str:
    """Return the name or id of an operation in a dict; empty if it has none."""
    name, identity = value.get("name"), value.get("id")
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    return identity if isinstance(identity, str) and _ID.fullmatch(identity) else ""


def _same(before: Iterable[Any], after: Iterable[Any]) -> bool:
    return all(one is other for one, other in zip(before, after, strict=True))


def _mapped(value: Mapping[Any, Any], read: dict[Any, Any]) -> Any:
    return value if _same(value.values(), read.values()) else read


def _listed(value: Sequence[Any], read: list[Any]) -> Any:
    if _same(value, read):
        return value
    if isinstance(value, tuple):
        return type(value)(*read) if hasattr(value, "_fields") else tuple(read)
    return read


def _export_of(task: Any, project: str) -> Export:
    """Return the export that ``task.start()`` would request, without its ``requestId``."""
    import ee

    body = {"workloadTag": task.workload_tag, **(task.config or {})}
    if not body["workloadTag"]:
        del body["workloadTag"]
    if isinstance(body.get("expression"), ee.Encodable):
        body["expression"] = ee.serializer.encode(body["expression"], for_cloud_api=True)
    kind = str(getattr(task.task_type, "value", task.task_type))
    return Export(KINDS.get(kind, kind), body, project)
