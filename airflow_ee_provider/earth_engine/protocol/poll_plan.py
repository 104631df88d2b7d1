"""The shared poller's decisions: at which tick an operation is read, and which waiters an answer is for.

There is no clock and no socket in here: the caller passes the time, and what was read.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.protocol.effects import ReadOperations
    from airflow_ee_provider.earth_engine.protocol.reading import ReadResults

#: Seconds that a read waits at least: a triggerer starts its triggers one by one, and they are to share a tick.
SHORTEST_WAIT = 0.25


@dataclass(eq=False, slots=True)
class Waiter:
    """A wait for the answer to a `ReadOperations`.

    :param tick: when its operations are read.
    :param is_due: whether that time has come.
    :param seen: what has been read for it.
    """

    read: ReadOperations
    tick: float
    is_due: bool = False
    seen: ReadResults = field(default_factory=dict)


class PollPlan:
    """The ticks to come, and the waiters of each.

    A new waiter joins a tick that is planned in the second half of its own time. So the waits of one client fall into
    step, and one list serves them all; each is read once or twice in its time, and never later.
    """

    def __init__(self) -> None:
        self.ticks: dict[float, set[Waiter]] = {}
        #: Tuples: nearly all have one waiter, and a set of one takes four times the memory.
        self._by_name: dict[OperationName, tuple[Waiter, ...]] = {}

    def add(self, read: ReadOperations, now: float) -> Waiter:
        """Plan a tick for a new waiter."""
        latest = now + max(read.after, SHORTEST_WAIT)
        planned = [tick for tick in self.ticks if now + read.after / 2 <= tick <= latest]
        waiter = Waiter(read, max(planned, default=latest))
        self.ticks.setdefault(waiter.tick, set()).add(waiter)
        for name in read.names:
            self._by_name[name] = (*self._by_name.get(name, ()), waiter)
        return waiter

    def remove(self, waiter: Waiter) -> None:
        """Forget a waiter: it has its answer, or no longer needs it."""
        self.ticks.get(waiter.tick, set()).discard(waiter)
        for name in waiter.read.names:
            if others := tuple(one for one in self._by_name.get(name, ()) if one is not waiter):
                self._by_name[name] = others
            else:
                self._by_name.pop(name, None)

    def waiting_for(self, names: Iterable[OperationName]) -> set[Waiter]:
        """Return the waiters of any of these operations."""
        return {waiter for name in names for waiter in self._by_name.get(name, ())}

    def begin(self, tick: float) -> dict[str, set[OperationName]]:
        """Begin a tick; return the operations to read, by project."""
        wanted: defaultdict[str, set[OperationName]] = defaultdict(set)
        for waiter in self.ticks.pop(tick, ()):
            waiter.is_due = True
            for name in waiter.read.names:
                if name not in waiter.seen:
                    wanted[name.project].add(name)
        return dict(wanted)

    def answer(self, found: ReadResults) -> list[Waiter]:
        """Take in what was read; return the waiters that have all they wait for, or news of an end."""
        answered: dict[Waiter, None] = {}
        for name, operation in found.items():
            ended = not isinstance(operation, EarthEngineError) and operation.done
            for waiter in self._by_name.get(name, ()):
                if ended or waiter.is_due:
                    waiter.seen[name] = operation
                    if ended or len(waiter.seen) == len(waiter.read.names):
                        answered[waiter] = None
        return list(answered)
