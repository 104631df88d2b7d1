"""What a process that is told to end leaves to another try of its task."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.airflow_versions import ACTIVE_STATES, FOLLOWED_BY_A_TRY, is_asking_airflow, own_state
from airflow_ee_provider.tasks.clean_up import is_last_try
from airflow_ee_provider.tasks.in_time import in_time
from airflow_ee_provider.tasks.records import operations_of_a_later_try

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_ee_provider.earth_engine.client.drivers import Log

#: Seconds that another try has to write down what it goes on with, and that Airflow has to say so. Five seconds after
#: the kill, Airflow kills for good.
LATER_TRY_BEGINS, LATER_TRY_TIMEOUT = 2.0, 1.0

#: States of a task that is in no process: seen from one that has not brought them about, they are another try's.
WAITS_WITHOUT_A_PROCESS = ("deferred", "up_for_reschedule")


def wanted_by_another_try(ti: Any, names: Iterable[str], log: Log, *, is_over: bool) -> set[str] | None:
    """Return the operations that another try wants, as far as that can be known amid whatever was interrupted.

    None if no other try follows. One may have begun long ago: the machine of this one's worker stood still, and
    Airflow took it for lost.

    What a user does to a running task is written down before the task hears of it, and leaves another state behind.
    So one that is told to end and is still running is wanted: its worker goes, because its pod is evicted or a new
    release is rolled out; or Airflow has lost sight of it, since its scheduler or its database were away. Who has
    done something to it, Airflow could say at once; where it says nothing at all, it is away. Then the next try
    follows by itself, if there are `retries`.

    :param ti: the task instance of this process.
    :param names: what this process holds.
    :param is_over: whether Airflow has said that none follows this one: only one that has begun can want them then.
    """
    all_names = set(names)
    of_next_try = None if is_over or is_last_try(ti) else all_names
    if is_asking_airflow():  # For a while by now: it is away.
        return of_next_try

    def look() -> set[str] | None:
        until = time.monotonic() + LATER_TRY_BEGINS
        while True:
            state = own_state(ti)
            if later := operations_of_a_later_try(ti):
                # While that one goes on, it may want what it has not written down yet: it asks for the same starts.
                return all_names | later if state in ACTIVE_STATES else later
            if is_over:
                return None
            if state != "running":
                return all_names if state in (*WAITS_WITHOUT_A_PROCESS, *FOLLOWED_BY_A_TRY) else None
            if time.monotonic() > until:
                return of_next_try
            time.sleep(0.3)  # This try, or the next one, which has just begun.

    try:
        return in_time(look, LATER_TRY_BEGINS + LATER_TRY_TIMEOUT)
    except Exception as error:  # noqa: BLE001 (Airflow raises what it likes)
        log.info("Airflow does not say whether another try has begun: %s", error)
        return of_next_try


def state_if_not_wanted(ti: Any) -> str:
    """Return a task instance's state if nobody wants any more what this try of it holds; otherwise nothing.

    :raises Exception: whatever keeps Airflow from saying so.
    """
    state = own_state(ti)
    is_wanted = state in ("running", *FOLLOWED_BY_A_TRY) and not operations_of_a_later_try(ti)
    return "" if is_wanted else state
