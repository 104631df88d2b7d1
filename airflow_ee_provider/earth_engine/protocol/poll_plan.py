"""The shared poller's decisions: who waits for which operations until when, what to read now, and whom to answer.

There is no clock and no socket in here: whoever carries the plan out says what time it is, and what was read.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
from airflow_ee_provider.earth_engine.protocol.reading import list_is_cheaper

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.protocol.effects import ReadOperations
    from airflow_ee_provider.earth_engine.protocol.reading import ReadResults


@dataclass(eq=False, slots=True)
class Waiter:
    """Somebody who waits for an answer to a `ReadOperations`.

    :param readable_from: the earliest time at which it may be answered from somebody else's list.
    :param due: when its operations are read for its own sake.
    :param in_progress: whether they are being read.
    """

    read: ReadOperations
    readable_from: float
    due: float
    seen: ReadResults = field(default_factory=dict)
    in_progress: bool = False

    def __lt__(self, other: Waiter) -> bool:
        return self.due < other.due

    @property
    def missing(self) -> list[OperationName]:
        """The operations of which nothing is known yet."""
        return [name for name in self.read.names if name not in self.seen]


@dataclass(frozen=True)
class Get:
    """Read one operation by its name."""

    name: OperationName


@dataclass(frozen=True)
class List:
    """Read the pages of a project's list.

    :param names: those that are due; what the list does not show is read by its name.
    :param guests: waiters that are not due yet, and are answered from this list if it shows what they wait for.
    """

    project: str
    names: frozenset[OperationName]
    guests: tuple[Waiter, ...]

    @property
    def also(self) -> set[OperationName]:
        """Names that nobody would be asked for on their own."""
        return {name for waiter in self.guests for name in waiter.missing}


class PollPlan:
    """Who waits, and what that takes; every method takes time proportional to the operations that it is about.

    Nobody waits for anybody else: a read that fails, or that is not waited for any more, concerns only itself.
    """

    def __init__(self) -> None:
        self.waiters: set[Waiter] = set()
        self._by_due: list[Waiter] = []  # A heap; some may be in progress, or gone.
        self._by_name: dict[OperationName, set[Waiter]] = defaultdict(set)
        self._pages: dict[str, int] = {}
        self._getting: set[OperationName] = set()

    def add(self, read: ReadOperations, now: float) -> Waiter:
        """Let somebody wait from now on."""
        waiter = Waiter(read, now + read.after / 2, now + read.after)
        self.waiters.add(waiter)
        heappush(self._by_due, waiter)
        for name in read.names:
            self._by_name[name].add(waiter)
        return waiter

    def remove(self, waiter: Waiter) -> None:
        """Let somebody wait no more."""
        self.waiters.discard(waiter)
        for name in waiter.read.names:
            self._by_name[name].discard(waiter)
            if not self._by_name[name]:
                del self._by_name[name]

    def waiting_for(self, names: Iterable[OperationName]) -> set[Waiter]:
        """Return who waits for any of these operations."""
        return {waiter for name in names for waiter in self._by_name.get(name, ())}

    def next_due(self) -> float | None:
        """Return when something is to be read next; None while nobody waits."""
        while self._by_due and (self._by_due[0].in_progress or self._by_due[0] not in self.waiters):
            heappop(self._by_due)
        return self._by_due[0].due if self._by_due else None

    def begin(self, now: float) -> list[Get | List]:
        """Return what is to be read now, for everybody who is due."""
        idle = [waiter for waiter in self.waiters if not waiter.in_progress]
        due = [waiter for waiter in idle if waiter.due <= now]
        guests = _by_their_only_project(waiter for waiter in idle if waiter.readable_from <= now < waiter.due)
        wanted: dict[str, set[OperationName]] = defaultdict(set)
        for waiter in due:
            waiter.in_progress = True
            for name in waiter.missing:
                wanted[name.project].add(name)
        urgent = {name for waiter in due if not waiter.read.after for name in waiter.read.names}
        reads: list[Get | List] = []
        for project, names in wanted.items():
            reading = List(project, frozenset(names), tuple(guests[project]))
            if list_is_cheaper(len(names | reading.also), self._pages.get(project)):
                for waiter in reading.guests:
                    waiter.in_progress = True
                reads.append(reading)
            else:
                # A list that was long the last time is tried again some day.
                self._pages[project] = max(1, self._pages.get(project, 1) - 1)
                reads += self._gets(names - (self._getting - urgent))
        return reads

    def _gets(self, names: Collection[OperationName]) -> list[Get | List]:
        self._getting.update(names)
        return [Get(name) for name in names]

    def got(self, get: Get) -> None:
        """Take in that a read by name has ended: who comes later has to ask again."""
        self._getting.discard(get.name)

    def listed(self, reading: List, found: Collection[OperationName], pages: int | None) -> list[Get | List]:
        """Take in that a list was read, and return what it does not show and is due.

        :param pages: how many it had; None where there was no list.
        """
        if pages is not None:
            self._pages[reading.project] = pages
        for waiter in reading.guests:  # Those that it has not served are due in their own time.
            waiter.in_progress = False
            heappush(self._by_due, waiter)
        return self._gets([name for name in reading.names if name not in found])

    def answer(self, found: ReadResults, now: float) -> list[Waiter]:
        """Take in what was read; return who has waited long enough, or for an operation that has ended."""
        answered: dict[Waiter, None] = {}
        for name, operation in found.items():
            ended = not isinstance(operation, EarthEngineError) and operation.done
            for waiter in self._by_name.get(name, ()):
                if ended or waiter.readable_from <= now:
                    waiter.seen[name] = operation
                    if ended or len(waiter.seen) == len(waiter.read.names):
                        answered[waiter] = None
        return list(answered)


def _by_their_only_project(waiters: Iterable[Waiter]) -> dict[str, list[Waiter]]:
    """Sort waiters by project; one who waits for operations of several is nobody's guest."""
    found: dict[str, list[Waiter]] = defaultdict(list)
    for waiter in waiters:
        projects = {name.project for name in waiter.read.names}
        if len(projects) == 1:
            found[projects.pop()].append(waiter)
    return found
