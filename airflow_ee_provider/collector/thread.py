"""The collector's thread. It runs in the oldest triggerer's process, or in a scheduler's if no triggerer runs.

The triggerer's own process may read Airflow's database; triggers run in another process or thread. A scheduler may fork
(LocalExecutor), so while a triggerer runs, the thread in the scheduler's process only checks for that every
`STANDBY_INTERVAL`.
"""

from __future__ import annotations

import logging
import re
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.airflow_versions import database_of_its_own
from airflow_ee_provider.base.task_states import ACTIVE_STATES
from airflow_ee_provider.tracking.holders import ACTIVE_RUN_STATES
from airflow_ee_provider.tracking.record import OPERATIONS_KEY, STARTED_KEY
from airflow_ee_provider.tracking.record_tables import is_of_run, key_columns, portions
from airflow_ee_provider.tracking.retry_memory import PREFIX, prefix_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_ee_provider.collector.collector import Collector


log = logging.getLogger(__name__)

#: The key of a Variable in which a task stores data for its next try.
_KEY = re.compile(
    rf"(?P<prefix>{re.escape(PREFIX)}[0-9a-f]{{32}}\.)(?:{re.escape(OPERATIONS_KEY)}(?:_\d+)?|{STARTED_KEY})"
)

#: How many Variables one statement deletes.
PORTION = 500

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
                    delete_unneeded(engine)
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


def delete_unneeded(engine: Any) -> int:
    """Delete the Variables of tasks that have ended or no longer exist; return their number.

    Tasks write Variables before Airflow 3.3. This lists the Variables before the active tasks, so that it does not
    delete those of a task that begins in between. If there are no Variables, it sends only one statement.
    """
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.variable import Variable
    from sqlalchemy import and_, delete, or_, select

    variable: Any = Variable.__table__
    task: Any = TaskInstance.__table__
    run: Any = DagRun.__table__
    with engine.begin() as connection:
        rows = connection.execute(select(variable.c.key).where(variable.c.key.like(f"{PREFIX}%")))
        found = {row.key: match["prefix"] for row in rows if (match := _KEY.fullmatch(row.key))}
        if not found:
            return 0
        _, task_id, map_index, _ = key_columns(run.c, task.c)
        names = (task.c.dag_id, task.c.run_id, task_id, map_index)
        is_active = and_(
            run.c.state.in_(ACTIVE_RUN_STATES), or_(task.c.state.is_(None), task.c.state.in_(ACTIVE_STATES))
        )
        rows = connection.execute(select(*names).select_from(run.join(task, is_of_run(task.c, run.c))).where(is_active))
        needed = {prefix_of(*row) for row in rows}
        unneeded = sorted(key for key, prefix in found.items() if prefix not in needed)
        for some in portions(unneeded, PORTION):
            connection.execute(delete(variable).where(variable.c.key.in_(some)))
    return len(unneeded)
