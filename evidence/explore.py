"""``make explore``: run the model with each event at each step, with pairs of events, and at random, for some minutes.

A failing history is printed as a timeline, with the line that replays it (in ``tests/model``).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from dataclasses import replace
from itertools import count, cycle
from pathlib import Path

from cleaners import CLEANERS
from exploring import QUICK, VERSIONS, Found, Pairs, explore, explore_at_random, shortest, singles

from dev.evidence import stamp

SECTION = """## Every moment, in a model

`make explore` writes this section. The provider's own code runs in a [model of Airflow](../../tests/model) with a
virtual clock. At a step of the run, an event happens: a user marks, clears or deletes; a time-out; a worker or a
triggerer is stopped, killed or suspended; another triggerer takes over; the scheduler loses a worker's heartbeats;
Earth Engine's response is lost or an error; Earth Engine refuses all requests for a while.

- *Each step*: each event at each step of each kind of task.
- *With clean-up*: the same, with a teardown, the DAG's notifier, the task's notifier, the stale-operations operator, or
  the collector.
- *Pairs*: two events at two steps, every second pair with the collector.
- *At random*: up to four events, drawn by Hypothesis.

Of each, as many as there was time for, evenly spread.

A run is a violation unless all of this is true: no operation keeps running that no task needs, except where none of
the provider's code can run and nothing cleans up; no operation is cancelled that a task needs, or that belongs to
another task; each export is started once, and recorded before the task waits; a deferred task resumes only when Airflow
accepts that; Earth Engine confirms each cancel. The provider's code cannot cancel before a later try has read what the
earlier ones have started, and while it cannot read the connection; then the collector cancels.

A known limitation is excluded: only the `requestId` leads to an export, and no later try sends it again. That is so if
the task's process gets SIGKILL, or the function raises an error (from an alarm, for example), in the milliseconds
between the request and the record, or if the run is deleted.

`make test` runs one of 18 events at each step, and some hundred random runs, on each version. `make nightly` checks
that the model finds each of a list of [known faults](../../tests/model/mutants.py).

| Airflow | minutes | each step | with clean-up | pairs | at random | steps | events | violations | measured |
|---|---|---|---|---|---|---|---|---|---|
"""


def write(page: Path, row: str) -> None:
    """Put a row into the page's table, in place of the row of the same versions."""
    text = page.read_text(encoding="utf-8")
    before, _, table = text.partition("\n## Every moment, in a model\n")
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| Airflow")]
    rows = sorted([line for line in rows if line.split("|")[1] != row.split("|")[1]] + [row], reverse=True)
    page.write_text(before.rstrip() + "\n\n" + SECTION + "\n".join(rows) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, help="by default, as many as there are cores")
    parser.add_argument("--page", type=Path, help="the page whose table gets the result")
    options = parser.parse_args()
    began = time.monotonic()
    ends = began + options.minutes * 60
    plans, pairs = list(singles()), Pairs()
    cleaned = [plan for cleaner in CLEANERS if cleaner for plan in singles(QUICK, cleaner=cleaner)]
    for some in (plans, cleaned):
        random.Random(options.seed).shuffle(some)  # There may be time for some of them only.
    each_step = explore(plans, ends, options.processes)
    then = time.monotonic()
    some_cleaned = explore(cleaned, then + (ends - then) / 3, options.processes)
    cleaners = cycle(("", "collector"))
    with_and_without = (replace(plan, cleaner=next(cleaners)) for plan in pairs.spread(options.seed))
    some_pairs = explore(with_and_without, (time.monotonic() + ends) / 2, options.processes)
    at_random = explore_at_random(count(options.seed), ends, options.processes)
    found = Found()
    for part in (each_step, some_cleaned, some_pairs, at_random):
        found.merge(part)
    for history in map(shortest, found.failing[:10]):
        print("\n".join([*history.timeline, *history.violations, str(history.plan), ""]))
    row = (
        f"| {', '.join(VERSIONS)} | {(time.monotonic() - began) / 60:.0f} | "
        f"{each_step.histories:,} of {len(plans):,} | {some_cleaned.histories:,} of {len(cleaned):,} | "
        f"{some_pairs.histories:,} of {len(pairs):,} | {at_random.histories:,} (from seed {options.seed}) | "
        f"{found.steps:,} | {found.strikes:,} | {len(found.failing)} | {stamp('explore')} |"
    )
    print(row)
    if options.page:
        write(options.page, row)
    return 1 if found.failing else 0


if __name__ == "__main__":
    sys.exit(main())
