"""What a record of operations looks like, in XCom and in Airflow 3.3's ``task_state_store``: parts, each versioned.

A record says which operations, in whose name, and by which try of which task instance. Its parts are XComs: the first
under `OPERATIONS_KEY`, the next under ``…_2`` and so on, each with at most `PART` names and one account.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.model.errors import InvalidOperationNameError
from airflow_ee_provider.earth_engine.model.operation_names import OperationName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: The XCom's key, and the key in Airflow 3.3's task_state_store.
OPERATIONS_KEY = "_earth_engine_operations"

#: The XCom's key for the number of the try that recorded them.
TRY_KEY = "_earth_engine_try"

#: The store's key for all operations that a task starts, once it has started and recorded the last of them.
STARTED_KEY = "_earth_engine_started"

#: The XCom's key under which a try writes down that it has ended, and that nothing of it is left to cancel.
SETTLED_KEY = "_earth_engine_settled"

#: What `Record.cancel_on` can have: an author's ``cancel_on_kill``, ``cancel_on_failure`` and ``cancel_on_timeout``.
CANCEL_ON = ("kill", "failure", "timeout")

#: The form of the records that this version writes; those of 0.1 are lists of names.
VERSION = 1

#: How many operations one part of a record holds: a part is written again for each few that it gets, and read once.
PART = 100


class Ownership(str, Enum):
    """Why a task records operations: what becomes of them when it is over depends on it."""

    #: It owns them until they end: they are orphans once it has ended, and nobody else holds them.
    OWNER = "owner"
    #: They are meant to run on after it: they are orphans only if its run has failed, and nobody else holds them.
    HANDED_OFF = "handed_off"
    #: It only waits for them: they are somebody else's.
    OBSERVER = "observer"
    #: It cancels them, whoever owns them.
    CANCELLER = "canceller"


@dataclass(frozen=True)
class Record:
    """A part of what a task instance has recorded.

    :param start_keys: of each operation the `Start.key` under which this package has started it; empty for others.
    :param account: the `ACCOUNT_PARAMETERS` of whoever started or adopted them; None if that is not known.
    :param try_number: of the try that recorded them.
    :param max_tries: of the task instance then: only a clear changes it.
    :param run_started: when its DAG run began, in ISO 8601: only the clear of a finished run changes it.
    :param ownership: the value of an `Ownership`.
    :param cancel_on: at which ends of the task its author wants them cancelled, out of `CANCEL_ON`; None if that is not
        known: people's own code has recorded them, or an earlier version.
    """

    operation_names: tuple[str, ...]
    account: dict[str, Any] | None = None
    task_id: str = ""
    map_index: int = -1
    try_number: int | None = None
    max_tries: int | None = None
    run_started: str | None = None
    #: Whether another part follows although this one is not full: one of another account.
    more: bool = False
    start_keys: tuple[str, ...] = ()
    ownership: str = Ownership.OWNER.value
    cancel_on: tuple[str, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what is written."""
        lists: dict[str, Any] = {"operation_names": list(self.operation_names), "start_keys": list(self.start_keys)}
        lists["cancel_on"] = None if self.cancel_on is None else list(self.cancel_on)
        return {"version": VERSION, **asdict(self), **lists}

    @classmethod
    def from_json(cls, value: Any, task_id: str = "", map_index: int | None = None) -> Record:
        """Read what this version or an earlier one has written.

        :param task_id: of the task under which it was found.
        :raises InvalidOperationNameError: if it is no record, such as the path of an object that is gone.
        """
        if isinstance(value, Exception):
            raise value
        if isinstance(value, list):  # 0.1
            return cls(texts_of(value), task_id=task_id, map_index=-1 if map_index is None else map_index)
        if not isinstance(value, dict) or value.get("version") != VERSION:
            raise InvalidOperationNameError(
                f"A {type(value).__name__} is no record of Earth Engine operations.",
                remedy="Is an object of the XCom backend gone, or was it written by a newer airflow-ee-provider?",
            )
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
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

    def with_keys(self) -> list[tuple[str, str]]:
        """Return each operation with its `Start.key`."""
        return list(zip(self.operation_names, self.start_keys or [""] * len(self.operation_names), strict=True))

    def with_more(self, operations: Mapping[str, str]) -> Record:
        """Return this record with further operations, each with its `Start.key`."""
        together = [*self.with_keys(), *operations.items()]
        names, keys = zip(*together, strict=True)
        return replace(self, operation_names=names, start_keys=keys if any(keys) else ())


def cancel_on_of(task: object) -> tuple[str, ...] | None:
    """Return at which ends the author of a task wants its operations cancelled; None if it has no such parameters.

    Call it once the parameters are rendered.
    """
    if not any(hasattr(task, f"cancel_on_{end}") for end in CANCEL_ON):
        return None
    return tuple(end for end in CANCEL_ON if getattr(task, f"cancel_on_{end}", False) is True)


def part_key(number: int) -> str:
    """Return the key of a part of a record, from 1."""
    return OPERATIONS_KEY if number == 1 else f"{OPERATIONS_KEY}_{number}"


def read_parts(read: Callable[[str], Any], task_id: str = "", map_index: int | None = None) -> Iterator[Record]:
    """Read part after part, for as long as another one can follow."""
    for number in count(1):
        value = read(part_key(number))
        if value is None:
            return
        record = Record.from_json(value, task_id, map_index)
        yield record
        if not may_go_on(record):
            return


def may_go_on(record: Record) -> bool:
    """Whether another part can follow this one."""
    return record.more or len(record.operation_names) >= PART


def texts_of(recorded: Any, project: str | None = None) -> tuple[str, ...]:
    """Read names, one or several, as texts.

    :param project: of bare ids.
    :raises InvalidOperationNameError: if one of them is none.
    """
    return tuple(str(name) for name in OperationName.parse_all(recorded, project))
