"""Starts the collector's thread in the processes of Airflow's jobs; Airflow finds it through the plugin."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from airflow.listeners import hookimpl
from airflow.providers.common.compat.sdk import conf

#: The section of Airflow's configuration; see `get_provider_info`.
_SECTION = "earth_engine"

#: The jobs in whose processes it may run.
_JOBS = ("TriggererJob", "SchedulerJob")


#: Seconds from the process's start to the first look. Before that, nothing is done at all, and no module is imported:
#: Airflow 3's triggerer forks the process of its triggers right after this.
_FIRST_LOOK_AFTER = 10.0


class CollectorListener:
    """What Airflow calls in each of its processes, those of tasks included: it must cost nothing, and raise nothing."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Start the thread when a job begins; Airflow sets the kind of job later."""
        if not hasattr(type(component), "job_type"):  # A task's process.
            return
        with suppress(Exception):  # An error here must not stop Airflow.
            if conf.getboolean(_SECTION, "cancel_orphans", fallback=True):
                grace = conf.getfloat(_SECTION, "cancel_orphans_after", fallback=30.0)
                about = (component, grace)
                threading.Thread(target=_run, args=about, name="earth-engine-collector", daemon=True).start()


def _run(job: Any, grace: float) -> None:
    time.sleep(_FIRST_LOOK_AFTER)
    known = vars(job)  # Its attributes themselves could ask the database, in a session that is not this thread's.
    job_id, job_type = known.get("id"), known.get("job_type")
    if job_id is None or job_type not in _JOBS:
        return
    from airflow_ee_provider.collector.thread import run

    run(job_id, job_type, grace)
