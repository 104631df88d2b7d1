"""What is to be waited for once a task's function has returned: its own, and what it leaves of the last try's."""

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

#: What a task can own: it starts the first three, of which the function has registered the last, and adopts the fourth.
Wanted = Export | Import | Start | OperationName


class Made(NamedTuple):
    """What a function has made.

    :param value: its value, with a `place_of` in place of each operation.
    :param operations: those in these places, and after them those that are owned besides.
    """

    value: Any
    operations: Sequence[Wanted]

    @classmethod
    def of(cls, made: Made | Sequence[Wanted]) -> Made:
        """Return what was made; operations alone are the value."""
        return made if isinstance(made, Made) else cls([place_of(number) for number in range(len(made))], made)

    @property
    def adopted(self) -> list[str]:
        """The operations that were started before."""
        return [str(one) for one in self.operations if isinstance(one, OperationName)]

    @property
    def output_url(self) -> str:
        """Where the first export's output will be seen; empty if that is not known."""
        return next((console_url_of(one.body) for one in self.requests if not isinstance(one, Import)), "")

    def with_registered(self, starts: Iterable[Start]) -> Made:
        """Return this, with what the function has registered and not returned."""
        placed = {one.key for one in self.operations if isinstance(one, Start)}
        return self._replace(operations=[*self.operations, *(one for one in starts if one.key not in placed)])

    @property
    def requests(self) -> list[Export | Import | Start]:
        """What is to be started."""
        return [one for one in self.operations if not isinstance(one, OperationName)]


def all_asked(
    hook: EarthEngineHook, starter: Starter, made: Made, left: Iterable[str], recorded: Iterable[tuple[str, str]]
) -> Asked:
    """Return what is to be started and waited for.

    What the last try has started stays the task's, whether or not the function makes it again. What the function has
    cancelled is not waited for, and neither is what has failed before it has started another one in its place.

    :param left: what the last try has left, and is active or has succeeded.
    :param recorded: what this try has recorded, each with its `Start.key`.
    """
    key_of = {name: key for name, key in recorded if key}
    starts = {id(one): starter.start_of(one) for one in made.requests}

    def meant(one: Wanted) -> str:
        return key_of.get(str(one), str(one)) if isinstance(one, OperationName) else starts[id(one)].key

    in_value = [meant(one) for one in made.operations]
    dealt_with = starter.deeds.cancelled | failed_among(hook, superseded(starter.started))
    own = [name for name in starter.started if name not in dealt_with]
    others = [name for name in left if name not in dealt_with and name not in starter.deeds.set_aside]
    # One that another one follows under the same key is `Deeds.set_aside`.
    without = {key_of.get(name, name) for name in dealt_with - starter.deeds.set_aside}
    by_itself, of_last_try = ([key_of.get(name, name) for name in names] for names in (own, others))
    wanted = by_itself + in_value + of_last_try
    return Asked(
        made.value,
        in_value,
        [one for one in dict.fromkeys(wanted) if one not in without],
        [*starter.started.values(), *starts.values()],
        set(starter.deeds.set_aside),
        {*by_itself, *of_last_try} - {start.key for start in starts.values()},
    )


def superseded(started: Mapping[str, Start]) -> list[str]:
    """Return the operations after which another one was started that writes the same.

    :param started: by operation, in their order.
    """
    destinations = {name: destination_of(start.body) for name, start in started.items()}
    last = {destination: name for name, destination in destinations.items() if destination}
    return [name for name, destination in destinations.items() if last.get(destination, name) != name]


def failed_among(hook: EarthEngineHook, names: list[str]) -> set[str]:
    """Return which operations have failed by now."""
    found = hook.read_operations(names) if names else {}
    return {str(name) for name, one in found.items() if isinstance(one, Operation) and one.failed}
