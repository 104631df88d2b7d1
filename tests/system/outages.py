"""Outages of a part of Airflow, or of a service that it needs, while tasks hold their operations."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
from actions import LOST_SIGHT, clear, fail_run
from trying import Tried, make_home

from dev.standalone import TASKS_API

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix_cells import Cell

    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

#: Seconds: longer than a scheduler's heartbeats are missing before the next one adopts its tasks (30 s); until another
#: triggerer has adopted the triggers of a lost one; until the broker delivers an unacknowledged message again; and
#: longer than Airflow's client retries a request.
SCHEDULER_AWAY, TRIGGERER_AWAY, REDELIVERED, MINUTE = 40.0, 60.0, 90.0, 60.0
#: Seconds for which Earth Engine does not respond.
EARTH_ENGINE_AWAY = 600.0


@dataclass(frozen=True)
class Outage:
    """How a part or a service becomes unavailable, and available again.

    :param go: makes it unavailable.
    :param back: makes it available again.
    :param seconds: for how long it is unavailable.
    """

    go: Callable[[Any, Emulator], object]
    back: Callable[[Any, Emulator], object]
    seconds: float = 10.0

    def happen(self, cells: list[Cell], airflow: StandaloneAirflow, emulator: Emulator) -> None:
        """Cause the outage while cells hold their operations."""
        happened = time.time()
        self.go(airflow, emulator)
        for cell in cells:
            cell.happened = happened
            if meanwhile := MEANWHILE.get(cell.event):
                meanwhile(cell, airflow)
        time.sleep(self.seconds)
        self.back(airflow, emulator)


def _kill(airflow: StandaloneAirflow, _: Emulator, *, part: str, sent: signal.Signals) -> None:
    airflow.kill(part, sent)


def _start(airflow: StandaloneAirflow, _: Emulator, *, part: str) -> None:
    airflow.start(part)


def part(name: str, sent: signal.Signals, seconds: float = 10.0) -> Outage:
    """Return an outage: a part of Airflow, or all parts that run a command, gets a signal and is started again."""
    return Outage(partial(_kill, part=name, sent=sent), partial(_start, part=name), seconds)


def _stand_still(airflow: Any, _: Emulator, *, which: Callable[[Any], str], sent: signal.Signals) -> None:
    for process in airflow.processes_of(which(airflow), with_tasks=True):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(sent)


def standstill(which: Callable[[Any], str], seconds: float) -> Outage:
    """Return an outage: a part and all its processes are suspended, as with their machine, and resume.

    :param which: returns the part's name, given Airflow at the time of the outage.
    """
    stop, go_on = (partial(_stand_still, which=which, sent=sent) for sent in (signal.SIGSTOP, signal.SIGCONT))
    return Outage(stop, go_on, seconds)


def _a_triggerer(_: Any) -> str:
    return "triggerer-1"


def _a_worker(airflow: Any) -> str:
    return str(airflow.workers[0])


def workers(*sent: signal.Signals, with_tasks: bool = False) -> Outage:
    """Return an outage: all Celery workers get signals, and other workers replace them."""

    def go(airflow: Any, _: Emulator) -> None:
        airflow.replace_workers(*sent, with_tasks=with_tasks)

    return Outage(go, _nothing)


def _nothing(_airflow: Any, _emulator: Emulator) -> None:
    pass


def _database_is_back(airflow: Any, _: Emulator) -> None:
    """Start the database, and the parts of Airflow that have ended without it."""
    airflow.database.start()
    airflow.start_what_has_ended()


def _earth_engine_goes(_: Any, emulator: Emulator) -> None:
    emulator.service.fail("unavailable", times=None, path="projects/*")


def _earth_engine_is_back(_: Any, emulator: Emulator) -> None:
    faults = emulator.service.faults
    faults[:] = [fault for fault in faults if fault.what != "unavailable"]


def _pause(airflow: StandaloneAirflow, _: Emulator, *, paused: bool) -> None:
    airflow.call("PATCH", "/dags?dag_id_pattern=soak_%25", {"is_paused": paused})


def _interrupt(airflow: StandaloneAirflow, emulator: Emulator) -> None:
    """Run a DAG in an Airflow of its author's own, and press Ctrl-C while its export is polled."""
    home = airflow.home.parent / "author"
    if not home.exists():
        make_home(home)
    tried = Tried("dags test", "export_deferrable_2", emulator, home, home)
    with tried.terminal:
        tried.interrupt()
        tried.end()
    if set(tried.states) != {"CANCELLED"}:
        raise RuntimeError(tried.terminal.shown)


#: Half a minute: less than the time that a soak task has left before its timeout.
DAGS_PAUSED = Outage(partial(_pause, paused=True), partial(_pause, paused=False), 30.0)
INTERRUPTED = Outage(_interrupt, _nothing, 0.0)
TRIGGERER_STOPS = part("triggerer", signal.SIGTERM)

#: By event of the lifecycle matrix; an outage that several events share happens once, to the cells of all of them.
OUTAGES = {
    "triggerer_sigterm": TRIGGERER_STOPS,
    "triggerer_sigkill": part("triggerer", signal.SIGKILL),
    "scheduler_sigkill": part("scheduler", signal.SIGKILL, SCHEDULER_AWAY),
    "cleared_without_triggerer": TRIGGERER_STOPS,
    "failed_without_triggerer": TRIGGERER_STOPS,
    "one_triggerer_sigterm": part("triggerer-1", signal.SIGTERM, TRIGGERER_AWAY),
    "one_triggerer_sigkill": part("triggerer-1", signal.SIGKILL, TRIGGERER_AWAY),
    "one_triggerer_stands_still": standstill(_a_triggerer, TRIGGERER_AWAY),
    "celery_warm": workers(signal.SIGTERM),
    "celery_sigterm_twice": workers(signal.SIGTERM, signal.SIGTERM),
    "celery_cold": workers(signal.SIGQUIT),
    "celery_sigkill": workers(signal.SIGKILL, with_tasks=True),
    "redelivered": Outage(_nothing, _nothing, REDELIVERED),
    "database_away": Outage(lambda a, _: a.database.stop(), _database_is_back, MINUTE),
    "broker_away": Outage(lambda a, _: a.broker.stop(signal.SIGKILL), lambda a, _: a.broker.start(), MINUTE),
    "api_server_restarts": part(TASKS_API, signal.SIGTERM, 20.0),
    "earth_engine_away": Outage(_earth_engine_goes, _earth_engine_is_back, EARTH_ENGINE_AWAY),
}

#: What is done to a cell during the outage, by event.
MEANWHILE: dict[str, Callable[[Cell, StandaloneAirflow], object]] = {
    "cleared_without_triggerer": clear,
    "failed_without_triggerer": fail_run,
}

#: The outages that a soak repeats, by their names in the vocabulary; in production, single workers and single
#: triggerers can fail.
DISTURBANCES = {
    "triggerer_sigkill": part("triggerer", signal.SIGKILL, 5.0),
    "dags_paused": DAGS_PAUSED,
    "interrupted": INTERRUPTED,
}
DISTURBANCES_IN_PRODUCTION = {
    "dags_paused": DAGS_PAUSED,
    "interrupted": INTERRUPTED,
    "one_triggerer_sigkill": part("triggerer-1", signal.SIGKILL, 45.0),
    "one_triggerer_sigterm": part("triggerer-2", signal.SIGTERM, 45.0),
    "one_triggerer_stands_still": standstill(_a_triggerer, 45.0),
    "one_worker_stands_still": standstill(_a_worker, LOST_SIGHT),
    "celery_warm": OUTAGES["celery_warm"],
    "celery_sigterm_twice": OUTAGES["celery_sigterm_twice"],
    "celery_cold": OUTAGES["celery_cold"],
    "celery_sigkill": OUTAGES["celery_sigkill"],
    "scheduler_sigkill": part("scheduler", signal.SIGKILL, 20.0),
    "database_away": replace(OUTAGES["database_away"], seconds=45.0),
    "broker_away": replace(OUTAGES["broker_away"], seconds=45.0),
    "api_server_restarts": OUTAGES["api_server_restarts"],
    "earth_engine_away": replace(OUTAGES["earth_engine_away"], seconds=60.0),
}
