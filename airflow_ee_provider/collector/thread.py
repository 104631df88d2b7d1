"""The collector's thread. It runs in the oldest triggerer's process, or in a scheduler's if no triggerer runs.

The triggerer's own process may read Airflow's database; triggers run in another process or thread. A scheduler may fork
(LocalExecutor), so while a triggerer runs, the thread in the scheduler's process only checks for that every
`STANDBY_INTERVAL`.
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

#: Seconds between two checks; their maximum, if checks take long; between two tests whether this job has to collect.
INTERVAL, LONGEST_INTERVAL, STANDBY_INTERVAL = 15.0, 300.0, 30.0

#: The job in whose process the collector runs, and the job that runs it if there is no triggerer.
TRIGGERER, SCHEDULER = "TriggererJob", "SchedulerJob"

#: The largest share of the time that checks may take.
MOST_OF_THE_TIME = 0.05

#: Seconds between two deletions of the Variables of ended tasks.
CLEANED_EVERY = 600.0

#: Seconds after which a job without a heartbeat counts as gone.
HEARTBEAT_WITHIN = 60.0


def run(job_id: int, job_type: str, grace: float) -> None:
    """Check the database repeatedly, without end. Errors are logged, not raised."""
    collector: Collector | None = None
    engine: Any = None
    said, cleaned = "", -CLEANED_EVERY
    while True:
        pause = STANDBY_INTERVAL
        try:
            engine = engine or database_of_its_own()
            if not is_first(engine, job_id, job_type):
                collector = None  # If this job has to collect again, it starts with an empty memory.
            else:
                if collector is None:
                    collector = make_collector(engine, grace)
                    log.info("This process (job %s) cancels Earth Engine operations that no task needs.", job_id)
                due = collector.look()
                if time.monotonic() - cleaned >= CLEANED_EVERY:
                    delete_unneeded(engine, collector.cancels.running)
                    cleaned = time.monotonic()
                pause = max(1.0, min(INTERVAL, INTERVAL if due is None else due), collector.took / MOST_OF_THE_TIME)
            said = ""
        except Exception as error:  # noqa: BLE001 (the database cannot be reached: the next check tries again)
            if said != (text := f"{type(error).__name__}: {error}"):
                said = text
                log.warning("Could not look for operations that no task needs; trying again later: %s", text)
        time.sleep(min(pause, LONGEST_INTERVAL))


def is_first(engine: Any, job_id: int, job_type: str) -> bool:
    """Whether this job has to collect: it is the oldest triggerer, or the oldest scheduler if no triggerer runs."""
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
    """Return a collector. Its modules are imported here, in its own thread."""
    from airflow_ee_provider.collector.cancels import Cancels
    from airflow_ee_provider.collector.collector import Collector
    from airflow_ee_provider.collector.look import Database
    from airflow_ee_provider.hooks.earth_engine import EarthEngineServerHook
    from airflow_ee_provider.tracking.audit import audit_row

    def audit(rows: Sequence[tuple[str, dict[str, Any], Any]]) -> None:
        from sqlalchemy.orm import Session

        with Session(bind=engine) as session:
            session.add_all([audit_row(*row) for row in rows])
            session.commit()

    return Collector(Database(engine.connect), Cancels(log, EarthEngineServerHook, audit), log, grace)
