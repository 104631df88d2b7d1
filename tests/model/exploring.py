"""Plans for the model: each strike at each step, pairs of strikes, and random ones; carried out on all cores."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import product
from math import gcd, isqrt
from multiprocessing import get_context
from typing import TYPE_CHECKING, TypeVar

import hypothesis
from airflow import __version__ as airflow_version
from cleaners import CLEANERS
from history import Run
from holders import HOLDERS
from hypothesis import strategies as st
from plans import History, Plan
from strikes import EITHER, STRIKES, UNWANTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")

#: The installed version; with the newest one also 3.1, so that `make test` covers both kinds of Airflow 3.
INSTALLED = ".".join(airflow_version.split(".")[:2])
VERSIONS = ("3.3", "3.1") if INSTALLED == "3.3" else (INSTALLED,)

#: How many histories a process carries out per batch.
BATCH = 100

#: The official client takes a tenth of a second to initialise in each process, 25 times as long as a whole history.
#: Where there are too many of its plans, one in this many is tried.
SLOW, ONE_OF = "decorator, deferred", 10
QUICK = [holder for holder in HOLDERS if holder != SLOW]


#: Settings of Hypothesis: histories have no deadline, and a seed always gives the same ones.
AT_RANDOM = hypothesis.settings(
    deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck), print_blob=False
)


@dataclass
class Found:
    """How many histories were carried out, and which of them fail."""

    histories: int = 0
    steps: int = 0
    strikes: int = 0
    failing: list[History] = field(default_factory=list)

    def add(self, history: History) -> None:
        self.histories += 1
        self.steps += history.steps
        self.strikes += len(history.struck)
        if history.violations:
            self.failing.append(history)

    def merge(self, other: Found) -> None:
        self.histories += other.histories
        self.steps += other.steps
        self.strikes += other.strikes
        self.failing += other.failing


def steps_of(holder: str, version: str) -> int:
    """Return the number of steps of a history without strikes."""
    return Run(Plan(holder, version)).carry_out().steps


def singles(
    holders: Iterable[str] = HOLDERS, versions: Iterable[str] = VERSIONS, cleaner: str = "", every: int = 1
) -> Iterator[Plan]:
    """Yield a plan for each strike at each step, and one without strikes.

    :param every: of this many strikes, one is tried at each step: at the next step, the next one.
    """
    kinds = [*((what, True) for what in STRIKES), *((what, False) for what in EITHER)]
    for holder in holders:
        for version in versions:
            yield Plan(holder, version, cleaner=cleaner)
            for step in range(steps_of(holder, version)):
                for what, retries in kinds[step % every :: every]:
                    yield Plan(holder, version, ((step, what),), cleaner, retries)


class Pairs:
    """Every pair of strikes at two steps of the history without strikes, by holder and version: too many to try all.

    At most one strike of a pair is one of `UNWANTED`.
    """

    def __init__(self, holders: Iterable[str] = QUICK, versions: Iterable[str] = VERSIONS) -> None:
        self._kinds = [kinds for kinds in product(STRIKES, repeat=2) if not set(kinds) <= set(UNWANTED)]
        self._sizes: dict[tuple[str, str], int] = {}
        for how in product(holders, versions):
            steps = steps_of(*how)
            self._sizes[how] = len(self._kinds) * steps * (steps - 1) // 2

    def __len__(self) -> int:
        return sum(self._sizes.values())

    def __getitem__(self, number: int) -> Plan:
        sizes = iter(self._sizes.items())
        how, size = next(sizes)
        while number >= size:
            number -= size
            how, size = next(sizes)
        steps, kinds = divmod(number, len(self._kinds))
        later = (1 + isqrt(1 + 8 * steps)) // 2  # The pairs of steps, counted along the rows of a triangle.
        earlier = steps - later * (later - 1) // 2
        return Plan(*how, tuple(zip((earlier, later), self._kinds[kinds], strict=True)))

    def spread(self, seed: int) -> Iterator[Plan]:
        """Yield each pair once, with all holders and steps evenly mixed."""
        stride = int(len(self) * 0.618)
        while gcd(stride, len(self)) != 1:
            stride += 1
        return (self[(seed + number * stride) % len(self)] for number in range(len(self)))


def shortest(history: History) -> History:
    """Leave out strikes as long as the history still fails, and return it."""
    strikes = history.plan.strikes
    for left_out in range(len(strikes)):
        fewer = Run(replace(history.plan, strikes=strikes[:left_out] + strikes[left_out + 1 :])).carry_out()
        if fewer.violations:
            return shortest(fewer)
    return history


def replay(plan: Plan) -> History:
    """Carry out a plan, and print its timeline and its violations."""
    history = Run(plan).carry_out()
    print("\n".join(history.timeline))
    print("\n".join(history.violations) or "all as promised")
    return history


@st.composite
def plans(draw: st.DrawFn, most: int = 4) -> Plan:
    """Draw a plan with strikes at some steps, at most one of them of `UNWANTED`."""
    holder, version = draw(st.sampled_from([*QUICK * ONE_OF, SLOW])), draw(st.sampled_from(VERSIONS))
    steps = sorted(draw(st.lists(st.integers(0, 89), min_size=1, max_size=most, unique=True)))
    others = [what for what in STRIKES if what not in UNWANTED]
    kinds = [draw(st.sampled_from(others)) for _ in steps]
    kinds[draw(st.integers(0, len(kinds) - 1))] = draw(st.sampled_from(list(STRIKES)))
    return Plan(holder, version, tuple(zip(steps, kinds, strict=True)), draw(st.sampled_from(list(CLEANERS))))


def carry_out_at_random(seed: int, examples: int = BATCH) -> Found:
    """Carry out plans that Hypothesis draws in this process."""
    found = Found()

    @hypothesis.seed(seed)
    @hypothesis.settings(AT_RANDOM, max_examples=examples, phases=[hypothesis.Phase.generate])
    @hypothesis.given(plans())
    def carry_out_one(plan: Plan) -> None:
        found.add(Run(plan).carry_out())

    carry_out_one()
    return found


def carry_out(plans: list[Plan]) -> Found:
    """Carry out plans in this process."""
    found = Found()
    for plan in plans:
        found.add(Run(plan).carry_out())
    return found


def explore(plans: Iterable[Plan], until: float = float("inf"), processes: int | None = None) -> Found:
    """Carry out plans on all cores until none is left, or until a time of the monotonic clock."""
    return _on_all_cores(carry_out, _batches(plans), until, processes)


def explore_at_random(seeds: Iterable[int], until: float = float("inf"), processes: int | None = None) -> Found:
    """Carry out a batch of random plans for each seed, on all cores, until a time of the monotonic clock."""
    return _on_all_cores(carry_out_at_random, seeds, until, processes)


def _on_all_cores(work: Callable[[T], Found], pieces: Iterable[T], until: float, processes: int | None) -> Found:
    found = Found()
    with ProcessPoolExecutor(processes or os.cpu_count(), get_context("fork")) as pool:
        under_way = []
        for piece in pieces:
            under_way.append(pool.submit(work, piece))
            while len(under_way) > 8:
                found.merge(under_way.pop(0).result())
            if time.monotonic() > until:
                break
        for future in under_way:
            found.merge(future.result())
    return found


def _batches(plans: Iterable[Plan]) -> Iterator[list[Plan]]:
    batch: list[Plan] = []
    for plan in plans:
        batch.append(plan)
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch
