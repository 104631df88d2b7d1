"""Where the collector runs: one thread, in the oldest triggerer's process; where there is none, in a scheduler's.

The triggerer's own process may read Airflow's database; triggers run in another one, or in another thread. A scheduler
may fork (LocalExecutor): so in its process one question is asked now and then, as long as there is a triggerer.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.airflow_versions import database_of_its_own
from airflow_ee_provider.collector.variables import delete_unneeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_ee_provider.collector.collector import Collector

log = logging.getLogger(__name__)

#: Seconds between two looks; at most, where each takes long; and between two questions whether it is this one's turn.
INTERVAL, LONGEST_INTERVAL, STANDBY_INTERVAL = 15.0, 300.0, 30.0

#: The job in whose process it runs, and the one that stands in for it.
TRIGGERER, SCHEDULER = "TriggererJob", "SchedulerJob"

#: A look takes no more than this share of the time.
MOST_OF_THE_TIME = 0.05

#: Seconds after which the Variables of tasks that have ended are deleted.
CLEANED_EVERY = 600.0

#: Seconds after which a job without a heartbeat counts as gone.
HEARTBEAT_WITHIN = 60.0


def run(job_id: int, job_type: str, grace: float) -> None:
    """Look again and again; raises nothing."""
    collector: Collector | None = None
    engine: Any = None
    said, cleaned = "", -CLEANED_EVERY
    while True:
        pause = STANDBY_INTERVAL
        try:
            engine = engine or database_of_its_own()
            if not is_first(engine, job_id, job_type):
                collector = None  # It begins anew if it has to.
            else:
                if collector is None:
                    collector = make_collector(engine, grace)
                    log.info("Earth Engine operations that no task needs are cancelled from here (job %s).", job_id)
                due = collector.look()
                if time.monotonic() - cleaned >= CLEANED_EVERY:
                    delete_unneeded(engine)
                    cleaned = time.monotonic()
                pause = max(1.0, min(INTERVAL, INTERVAL if due is None else due), collector.took / MOST_OF_THE_TIME)
            said = ""
        except Exception as error:  # noqa: BLE001 (the database is away: it is asked again)
            if said != (text := f"{type(error).__name__}: {error}"):
                said = text
                log.warning("Operations that no task needs cannot be looked for now; that is tried again: %s", text)
        time.sleep(min(pause, LONGEST_INTERVAL))


def is_first(engine: Any, job_id: int, job_type: str) -> bool:
    """Whether this job is the one whose process collects: the oldest triggerer, or scheduler if there is none."""
    from airflow.jobs.job import Job
    from sqlalchemy import select

    job: Any = Job.__table__.c
    alive = datetime.now(timezone.utc) - timedelta(seconds=HEARTBEAT_WITHIN)
    statement = select(job.id, job.job_type).where(
        job.job_type.in_((TRIGGERER, SCHEDULER)), job.state == "running", job.latest_heartbeat >= alive
    )
    with engine.connect() as connection:
        jobs = sorted((row.job_type != TRIGGERER, row.id) for row in connection.execute(statement))
    return not jobs or jobs[0] == (job_type != TRIGGERER, job_id)


def make_collector(engine: Any, grace: float) -> Collector:
    """Make the collector; what it needs is imported here, in its own thread."""
    from airflow_ee_provider.collector.cancels import Cancels
    from airflow_ee_provider.collector.collector import Collector
    from airflow_ee_provider.collector.look import Database
    from airflow_ee_provider.hooks.server import EarthEngineServerHook
    from airflow_ee_provider.tracking.audit import audit_row

    def audit(rows: Sequence[tuple[str, dict[str, Any], Any]]) -> None:
        from sqlalchemy.orm import Session

        with Session(bind=engine) as session:
            session.add_all([audit_row(*row) for row in rows])
            session.commit()

    return Collector(Database(engine.connect), Cancels(log, EarthEngineServerHook, audit), log, grace)
