"""Collect the exports and operations that a task waits for after its function has returned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ee_provider.earth_engine.ee_client.objects import place_of
from airflow_ee_provider.earth_engine.model.destinations import console_url_of, destination_of
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.model.operations import Operation
from airflow_ee_provider.earth_engine.protocol.starting import Export, Import, Start
from airflow_ee_provider.tracking.requests import Asked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_ee_provider.exports.starter import Starter
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

#: What a task can own. It starts exports, imports, and the starts that the function registered; it adopts names.
Wanted = Export | Import | Start | OperationName


class Made(NamedTuple):
    """A function's return value and its operations.

    :param value: The value, with a `place_of` in place of each operation.
    :param operations: The operations in these places, and after them others that the task owns.
    """

    value: Any
    operations: Sequence[Wanted]

    @classmethod
    def of(cls, made: Made | Sequence[Wanted]) -> Made:
        """Return a `Made`. If only operations are given, their list is the value."""
        return made if isinstance(made, Made) else cls([place_of(number) for number in range(len(made))], made)

    @property
    def adopted(self) -> list[str]:
        """The operations that were started before."""
        return [str(one) for one in self.operations if isinstance(one, OperationName)]

    @property
    def output_url(self) -> str:
        """The URL of the first export's output; empty if there is none."""
        return next((console_url_of(one.body) for one in self.requests if not isinstance(one, Import)), "")

    def with_registered(self, starts: Iterable[Start]) -> Made:
        """Return a copy with the starts that the function has registered but not returned."""
        placed = {one.key for one in self.operations if isinstance(one, Start)}
        return self._replace(operations=[*self.operations, *(one for one in starts if one.key not in placed)])

    @property
    def requests(self) -> list[Export | Import | Start]:
        """The operations that are to be started."""
        return [one for one in self.operations if not isinstance(one, OperationName)]


def all_asked(
    hook: EarthEngineHook, starter: Starter, made: Made, left: Iterable[str], recorded: Iterable[tuple[str, str]]
) -> Asked:
    """Return the exports to start, and the operations to wait for.

    The last try's operations still belong to the task, even if the function does not make them again. The task does not
    wait for operations that the function has cancelled, nor for failed ones in whose place it has started others.

    :param left: The last try's operations that are active or have succeeded.
    :param recorded: The operations that this try has recorded, each with its `Start.key`.
    """
    key_of = {name: key for name, key in recorded if key}
    starts = {id(one): starter.start_of(one) for one in made.requests}

    def meant(one: Wanted) -> str:
        return key_of.get(str(one), str(one)) if isinstance(one, OperationName) else starts[id(one)].key

    in_value = [meant(one) for one in made.operations]
    dealt_with = starter.deeds.cancelled | failed_among(hook, superseded(starter.started))
    own = [name for name in starter.started if name not in dealt_with]
    others = [name for name in left if name not in dealt_with and name not in starter.deeds.set_aside]
    # An operation after which another one was started with the same key is in `Deeds.set_aside`.
    without = {key_of.get(name, name) for name in dealt_with - starter.deeds.set_aside}
    started_by_function, of_last_try = ([key_of.get(name, name) for name in names] for names in (own, others))
    needed = started_by_function + in_value + of_last_try
    return Asked(
        made.value,
        in_value,
        [one for one in dict.fromkeys(needed) if one not in without],
        [*starter.started.values(), *starts.values()],
        set(starter.deeds.set_aside),
        {*started_by_function, *of_last_try} - {start.key for start in starts.values()},
    )


def superseded(started: Mapping[str, Start]) -> list[str]:
    """Return the operations after which another one with the same destination was started.

    :param started: By operation name, in the order in which they were started.
    """
    destinations = {name: destination_of(start.body) for name, start in started.items()}
    last = {destination: name for name, destination in destinations.items() if destination}
    return [name for name, destination in destinations.items() if last.get(destination, name) != name]


def failed_among(hook: EarthEngineHook, names: list[str]) -> set[str]:
    """Return which of the operations have failed."""
    found = hook.read_operations(names) if names else {}
    return {str(name) for name, one in found.items() if isinstance(one, Operation) and one.failed}
