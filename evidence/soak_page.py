"""What ``make soak`` writes: ``docs/results/reliability.md``."""

from __future__ import annotations

from collections import Counter, defaultdict
from statistics import median
from typing import TYPE_CHECKING

from airflow import __version__ as airflow_version
from production import CONCURRENCY
from tabulate import tabulate
from vocabulary import SENTENCES

from dev.evidence import stamp

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from soak import Soaked

IN_PRODUCTION = """
It runs as in production: PostgreSQL, Redis, Celery with two workers, two triggerers, and a separate API server for the
tasks. One worker's clock is an hour late, one triggerer's an hour early. An outage lasts a minute, so runs may take
three times as long as in [the test without production services](reliability.md).
"""

INTRODUCTION = """# Reliability{title}: a long run with failures

`make soak` writes this page. A real Airflow runs DAGs of [several shapes](../../tests/system/dags/soak.py). Tasks and
runs are [cleared, marked and timed out](../../evidence/soak.py) at random, Airflow's processes are killed, and
{rate:.0%} of all requests to the emulated Earth Engine fail ({faults}).
Two of three runs have a notifier as their DAG's callback, and a teardown. The others have neither ({bare} runs): the
collector cancels operations that their tasks did not cancel ({collected} operations). Each DAG has another task, whose
export must keep running unless the whole run ends.
{production}
{when}, Airflow {version}, {minutes:g} minutes, seed {seed}: {exports} exports of {runs} runs, {requests:,} requests, of
which {faulty:,} failed.
"""


CONNECTIONS = """Connections to PostgreSQL: {middle:g} in the second third, {end:g} at the end. Each of the {processes}
processes of Celery's two workers opens one with its first task and keeps it. After the workers are replaced, there are
fewer for a while."""


def page(options: argparse.Namespace, soaked: Soaked, faults: Sequence[str], rate: float) -> str:
    """Return the page, as Markdown."""
    service = soaked.service
    faulty = [entry for entry in service.journal if entry["fault"]]
    introduction = INTRODUCTION.format(
        title=" in production" if options.production else "",
        production=IN_PRODUCTION if options.production else "",
        rate=rate,
        faults=", ".join(faults),
        when=stamp("soak"),
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
        event = SENTENCES[run.event] if run.had_its_event else "the run ended before its event"
        outcomes[event].update(o.state(service.clock.now()) for o in run.exports(service))
    done = Counter({SENTENCES.get(what, what): times for what, times in soaked.done.items()})
    became = [
        [event, done.get(event, ""), ", ".join(f"{n} {s}" for s, n in states.items())]
        for event, states in outcomes.items()
    ]
    known = {event for event, *_ in became}
    became += [[what, times, ""] for what, times in done.items() if what not in known]
    tables = [
        tabulate(became, ["Event", "Times", "Exports at the end"], tablefmt="github"),
        tabulate(
            [[what, len(which)] for what, which in soaked.wrong.items()], ["Exports that", "Number"], tablefmt="github"
        ),
        tabulate(
            soaked.processes.rows(),
            ["Process", "MiB, second third", "MiB, at the end", "Open files, second third", "Open files, at the end"],
            tablefmt="github",
        ),
    ]
    if seen := soaked.processes.connections:
        third = max(1, len(seen) // 3)
        middle, end = median(seen[third : 2 * third] or seen), median(seen[-third:])
        tables.append(CONNECTIONS.format(middle=middle, end=end, processes=2 * CONCURRENCY))
    return "\n\n".join([introduction, *tables]) + "\n"
