"""What ``make soak`` writes: ``docs/reliability.md``."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime, timezone
from statistics import median
from typing import TYPE_CHECKING

from airflow import __version__ as airflow_version
from production import CONCURRENCY
from tabulate import tabulate
from vocabulary import SENTENCES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from soak import Soaked

IN_PRODUCTION = """
It runs as in production: PostgreSQL, Redis, Celery with two workers, two triggerers, an API server for the tasks alone.
The clock of one worker is an hour behind all the time, and that of one triggerer an hour ahead. Runs may take three
times as long as in [the other one](reliability.md): what is away is away for a minute.
"""

INTRODUCTION = """# A bad day{title}

Written by `make soak`, never edited by hand: a real Airflow with runs of DAGs of
[several shapes](../tests/system/dags/soak.py), to which [things are done](../tests/system/soak.py) at random, while
{rate:.0%} of all requests to the emulated Earth Engine meet a fault ({faults}), and what Airflow consists of is killed.
Two of three runs are of DAGs that have the notifier as their callback, and a teardown for runs that are marked failed
while no triggerer runs; the others have neither ({bare} runs): what their tasks leave, the collector cancels
({collected} operations). Each DAG has another task, whose export runs on unless the whole run is ended.
{production}
{when}, Airflow {version}, {minutes:g} minutes, seed {seed}: {exports} exports of {runs} runs, {requests:,} requests of
which {faulty:,} met a fault.
"""


CONNECTIONS = """Connections to PostgreSQL: {middle:g} in the second third, {end:g} at the end. Each of the {processes}
processes of Celery's two workers keeps one from its first task on; after others have taken their place, there are fewer
for a while."""


def page(options: argparse.Namespace, soaked: Soaked, faults: Sequence[str], rate: float) -> str:
    """Return the page, as Markdown."""
    service = soaked.service
    faulty = [entry for entry in service.journal if entry["fault"]]
    introduction = INTRODUCTION.format(
        title=" in production" if options.production else "",
        production=IN_PRODUCTION if options.production else "",
        rate=rate,
        faults=", ".join(faults),
        when=f"{datetime.now(timezone.utc):%Y-%m-%d}",
        version=airflow_version,
        minutes=options.minutes,
        seed=options.seed,
        exports=len(service.operations),
        runs=len(soaked.runs),
        bare=sum(run.is_bare for run in soaked.runs),
        collected=soaked.collected,
        requests=len(service.journal),
        faulty=len(faulty),
    )
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    for run in soaked.runs:
        event = (
            SENTENCES[run.event]
            if run.acted or run.event in ("nothing", "times_out")
            else "ended before anything was done"
        )
        outcomes[event].update(o.state(service.clock.now()) for o in run.exports(service))
    done = Counter({SENTENCES.get(what, what): times for what, times in soaked.done.items()})
    became = [
        [event, done.get(event, ""), ", ".join(f"{n} {s}" for s, n in states.items())]
        for event, states in outcomes.items()
    ]
    known = {event for event, *_ in became}
    became += [[what, times, ""] for what, times in done.items() if what not in known]
    tables = [
        tabulate(became, ["what was done", "times", "what became of the exports"], tablefmt="github"),
        tabulate(
            [[what, len(which)] for what, which in soaked.wrong.items()], ["exports that", "number"], tablefmt="github"
        ),
        tabulate(
            soaked.processes.rows(),
            ["process", "MiB, second third", "MiB, at the end", "open files, second third", "open files, at the end"],
            tablefmt="github",
        ),
    ]
    if seen := soaked.processes.connections:
        third = max(1, len(seen) // 3)
        middle, end = median(seen[third : 2 * third] or seen), median(seen[-third:])
        tables.append(CONNECTIONS.format(middle=middle, end=end, processes=2 * CONCURRENCY))
    return "\n\n".join([introduction, *tables]) + "\n"
