"""The format of a record of operations, in XComs and in Airflow 3.3's ``task_state_store``: parts, each with a version.

Each part has operations, their account, and the try of the task instance. The last part has the key `OPERATIONS_KEY`.
It is written again for each addition, until it has `PART` operations, or the next operations have another account. Then
it moves to a key of `part_key`, and is never written again. The last part has the number of the parts before it. So one
read of one key shows whether there is a record, which try has written it, and how many reads the other parts take.

For N operations, a task makes W writes, and each reader (the task's next process, its next try, a clean-up, the
collector) makes R reads:

=====  =================================  ===================================
N      two flushes a second (50 each)     one by one, by a function
=====  =================================  ===================================
1      W = 1, R = 1                       W = 1, R = 1
300    W = 8, R = 3                       W = 302, R = 3
3,000  W = 89, R = 30                     W = 3,029, R = 30
=====  =================================  ===================================

If each flush wrote a separate part, W would be 60 and 3,000 for 3,000 operations, but R would be 61 and 3,001; and
before Airflow 3.3, there would be as many Variables.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ee_provider.base.parameters import CONNECTION_FIELDS
from airflow_ee_provider.earth_engine.model.errors import InvalidOperationNameError
from airflow_ee_provider.earth_engine.model.operation_names import OperationName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow.providers.common.compat.sdk import Context

#: The key of a record's last part: of an XCom, and in Airflow 3.3's task_state_store.
OPERATIONS_KEY = "_earth_engine_operations"

#: The XCom's key for the number of the try that recorded the operations.
TRY_KEY = "_earth_engine_try"

#: The store's key for all operations that a task starts, once it has started and recorded the last of them.
STARTED_KEY = "_earth_engine_started"

#: The values in `Record.cancel_on`: for ``cancel_on_kill``, ``cancel_on_failure`` and ``cancel_on_timeout``.
CANCEL_ON = ("kill", "failure", "timeout")

#: The version of the format of the records that this package writes.
VERSION = 1

#: The maximum number of operations in a part, and of parts before the last one.
PART, MOST_PARTS = 100, 1_000


class Ownership(str, Enum):
    """Why a task records operations; whether they are cancelled after its end depends on it."""

    #: The task needs them until they end: they are orphans once it has ended, unless another task needs them.
    OWNER = "owner"
    #: They keep running after the task: they are orphans only if its run has failed and no other task needs them.
    HANDED_OFF = "handed_off"
    #: The task only waits for them: another one owns them.
    OBSERVER = "observer"
    #: The task cancels them, whichever task owns them.
    CANCELLER = "canceller"


#: The operations that a further try continues with, or cancels.
RESUMED = (Ownership.OWNER, Ownership.HANDED_OFF)


@dataclass(frozen=True)
class Record:
    """A part of a task instance's record.

    :param start_keys: The `label_of` each operation; empty if another program started it.
    :param account: The `CONNECTION_FIELDS` of the account that started or adopted them; None if unknown.
    :param try_number: The number of the try that recorded the operations.
    :param max_tries: The task instance's ``max_tries`` at that time. Only a clear changes it.
    :param run_started: When its DAG run began, in ISO 8601. Only the clear of a finished run changes it.
    :param ownership: The value of an `Ownership`.
    :param cancel_on: The causes of `CANCEL_ON` for which the operations are cancelled; None if unknown, because the
        author's code has recorded the operations.
    :param parts_before: The number of parts before this one.
    """

    operation_names: tuple[str, ...]
    account: dict[str, Any] | None = None
    task_id: str = ""
    map_index: int = -1
    try_number: int | None = None
    max_tries: int | None = None
    run_started: str | None = None
    start_keys: tuple[str, ...] = ()
    ownership: str = Ownership.OWNER.value
    cancel_on: tuple[str, ...] | None = None
    parts_before: int = 0

    @classmethod
    def of_task(
        cls, context: Context, account: dict[str, Any] | None, ownership: str, cancel_on: tuple[str, ...] | None
    ) -> Record:
        """Return a part for the context's task instance, without operations."""
        ti = item_of(context, "ti")
        return cls(
            (),
            account,
            ti.task_id,
            map_index_of(ti),
            ti.try_number,
            getattr(ti, "max_tries", None),
            run_started(context),
            ownership=Ownership(ownership).value,
            cancel_on=cancel_on,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the part as plain JSON."""
        lists: dict[str, Any] = {"operation_names": list(self.operation_names), "start_keys": list(self.start_keys)}
        lists["cancel_on"] = None if self.cancel_on is None else list(self.cancel_on)
        return {"version": VERSION, **asdict(self), **lists}

    @classmethod
    def from_json(cls, value: Any) -> Record:
        """Read the JSON that `as_json` returned; fields of later versions are ignored.

        :raises InvalidOperationNameError: If the value is not a record, for example the path of a deleted object, or if
            a field is invalid. Users who may write XComs may write any value.
        """
        if isinstance(value, Exception):
            raise value
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value} if _is_ours(value) else {}
        wrong = [name for name in known if name != "operation_names" and not _is_right(name, known[name])]
        if wrong or not known:
            raise InvalidOperationNameError(
                f"{_what(value, wrong)} is not a record of Earth Engine operations.",
                remedy="Check that no object of the XCom backend was deleted, and that the record was not written by a "
                "newer airflow-ee-provider.",
            )
        if known.get("account") is not None:
            known["account"] = {name: known["account"].get(name) for name in CONNECTION_FIELDS}
        names = texts_of(value["operation_names"])
        keys = tuple(str(key) for key in known.get("start_keys", ()))
        ends = known.get("cancel_on")
        return cls(
            **{
                **known,
                "operation_names": names,
                "start_keys": keys if len(keys) == len(names) else (),
                "cancel_on": None if ends is None else tuple(str(end) for end in ends),
            }
        )

    def with_labels(self) -> list[tuple[str, str]]:
        """Return each operation with its `label_of`."""
        return list(zip(self.operation_names, self.start_keys or [""] * len(self.operation_names), strict=True))

    def is_like(self, other: Record) -> bool:
        """Whether both have the same account, ownership and ``cancel_on``, so that their operations fit in one part."""
        return (self.account, self.ownership, self.cancel_on) == (other.account, other.ownership, other.cancel_on)


def label_of(key: str, block: int) -> str:
    """Return the `Start.key` of an operation, with the number of the ``earth_engine()`` block that has started it."""
    return f"{key}-block{block}" if block else key


def key_and_block(label: str) -> tuple[str, int]:
    """Return the parts of a `label_of`."""
    key, _, block = label.partition("-block")
    return key, int(block) if block.isdecimal() else 0


class RecordedItem(NamedTuple):
    """An operation that a task has recorded, with its `Start.key`, its block's number, and an `Ownership`."""

    name: str
    key: str
    block: int
    ownership: str


def items_of(parts: Iterable[Record]) -> list[RecordedItem]:
    """Return the operations in the parts of a record."""
    labelled = ((part.ownership, item) for part in parts for item in part.with_labels())
    return [RecordedItem(name, *key_and_block(label), ownership) for ownership, (name, label) in labelled]


def _is_ours(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.get("version") == VERSION
        and {"operation_names", "parts_before"} <= set(value)
    )


def _what(value: Any, wrong: list[str]) -> str:
    if not wrong:
        return f"A {type(value).__name__}"
    return f"What has {', '.join(f'{name}={value[name]!r:.60}' for name in wrong)}"


#: The fields of a record that are a number, those that are a list of texts, and those that can be None.
_NUMBERS, _LISTS = ("map_index", "try_number", "max_tries", "parts_before"), ("start_keys", "cancel_on")
_OPTIONAL = ("account", "try_number", "max_tries", "run_started", "cancel_on")


def _is_right(name: str, value: Any) -> bool:
    """Whether the value of a field is valid. `texts_of` checks the operations' names."""
    if value is None:
        return name in _OPTIONAL
    if name == "account":
        return _is_account(value)
    if name in _NUMBERS:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return is_number and (name != "parts_before" or 0 <= value <= MOST_PARTS)
    if name in _LISTS:
        return isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)
    if name == "run_started":
        with suppress(TypeError, ValueError):
            return bool(datetime.fromisoformat(value))
        return False
    return isinstance(value, str) and (name != "ownership" or value in {one.value for one in Ownership})


def _is_account(value: Any) -> bool:
    """Whether a value is a dict with `CONNECTION_FIELDS` that a hook accepts."""
    if not isinstance(value, dict) or CONNECTION_FIELDS[0] not in value:
        return False
    conn_id, project, chain = (value.get(name) for name in CONNECTION_FIELDS)
    texts = chain if isinstance(chain, (list, tuple)) else () if chain is None else (chain,)
    return all(one is None or isinstance(one, str) for one in (conn_id, project)) and all(
        isinstance(text, str) for text in texts
    )


def cancel_on_of(task: object) -> tuple[str, ...] | None:
    """Return the causes of `CANCEL_ON` that a task's parameters set; None if it has no such parameters.

    Call it when the parameters are rendered.
    """
    if not any(hasattr(task, f"cancel_on_{end}") for end in CANCEL_ON):
        return None
    return tuple(end for end in CANCEL_ON if getattr(task, f"cancel_on_{end}", False) is True)


def part_key(number: int) -> str:
    """Return the key of a part before the last one; the first part has the number 1."""
    return f"{OPERATIONS_KEY}_{number}"


def read_parts(read: Callable[[str], Any]) -> list[Record]:
    """Return the parts of a record; an empty list if there is no record.

    :param read: Returns the value of a key; None if there is no value, or an exception if it cannot be read.
    :raises Exception: If a part cannot be read.
    """
    if (value := read(OPERATIONS_KEY)) is None:
        return []
    last = Record.from_json(value)
    before = [read(part_key(number)) for number in range(1, last.parts_before + 1)]
    # Variables do not have the parts of operations that the task only observes or cancels.
    return [*(Record.from_json(value) for value in before if value is not None), last]


def texts_of(recorded: Any, project: str | None = None) -> tuple[str, ...]:
    """Return one name or several as strings.

    :param project: The project of ids that have no project.
    :raises InvalidOperationNameError: If one of them is not an operation's name.
    """
    return tuple(str(name) for name in OperationName.parse_all(recorded, project))


def run_started(context: Context) -> str | None:
    """Return when the context's DAG run last began, in ISO 8601; None if that is unknown."""
    started = getattr(context.get("dag_run"), "start_date", None)
    return None if started is None else started.isoformat()


def map_index_of(ti: Any) -> int:
    """Return the map index of a task instance; -1 for one that is not mapped."""
    index = getattr(ti, "map_index", -1)
    return -1 if index is None else int(index)


def item_of(context: Context, key: str) -> Any:
    """Return the value of a key in a context.

    :raises LookupError: If a callback's context does not have it. The message suggests an alternative.
    """
    if (value := context.get(key)) is None:
        raise LookupError(f"There is no {key!r} in this callback's context: pass operation_names instead.")
    return value
