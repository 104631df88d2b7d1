"""Start the collector's thread in the processes of Airflow's jobs. Airflow finds the listener through the plugin."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from airflow.listeners import hookimpl
from airflow.providers.common.compat.sdk import conf

#: The section of Airflow's configuration; see `get_provider_info`.
_SECTION = "earth_engine"

#: The jobs in whose processes the collector may run.
_JOBS = ("TriggererJob", "SchedulerJob")


#: Seconds from the job's start to the first check. Until then, the thread does nothing and imports no module, because
#: Airflow 3's triggerer forks the process of its triggers right after the start.
_FIRST_LOOK_AFTER = 10.0


class CollectorListener:
    """A listener that Airflow calls in all its processes, also those of tasks. It must be fast and raise nothing."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Start the thread when a job begins. The thread checks the type of the job, which Airflow sets later."""
        if not hasattr(type(component), "job_type"):  # A task's process.
            return
        with suppress(Exception):  # An error here must not stop Airflow.
            if conf.getboolean(_SECTION, "cancel_orphans", fallback=True):
                grace = conf.getfloat(_SECTION, "cancel_orphans_after", fallback=30.0)
                about = (component, grace)
                threading.Thread(target=_run, args=about, name="earth-engine-collector", daemon=True).start()


def _run(job: Any, grace: float) -> None:
    time.sleep(_FIRST_LOOK_AFTER)
    known = vars(job)  # Access to its attributes could query the database, in another thread's session.
    job_id, job_type = known.get("id"), known.get("job_type")
    if job_id is None or job_type not in _JOBS:
        return
    from airflow_ee_provider.collector.thread import run

    run(job_id, job_type, grace)
