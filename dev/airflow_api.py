"""The actions of users in Airflow's UI, through its REST API: for the demo and the system tests."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: Seconds after which a wait fails, even on a busy machine.
PATIENCE = 600.0

#: Seconds to wait for a response: longer than the wait for SQLite's lock, so that no second request meets the first.
ANSWERED_WITHIN = 90.0

#: How many server errors end a call.
MOST_REFUSALS = 5

#: States in which Airflow has ended a task; and how many seconds a task must be in such a state for it to be final.
FINAL_STATES = ("success", "failed", "skipped", "upstream_failed", "removed")
FINAL_FOR = 60.0


class AirflowApi:
    """The REST API of an Airflow 3; the system tests have the differences of Airflow 2."""

    if TYPE_CHECKING:
        url: str

        @property
        def authorization(self) -> str:
            """The value of the ``Authorization`` header."""

    api_path = "/api/v2"
    #: One request at a time: on SQLite, an API server with two concurrent writes can lock itself out for minutes.
    _turn: ClassVar[threading.Lock] = threading.Lock()
    #: The body of the request for a new DAG run, besides its id and its conf.
    run_body: ClassVar[dict[str, Any]] = {"logical_date": None}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call the REST API; return the response's JSON.

        :raises RuntimeError: with the response, if it is an error.
        """
        import requests

        url, headers = f"{self.url}{self.api_path}{path}", {"Authorization": self.authorization}
        until, refusals = time.monotonic() + PATIENCE, 0
        for attempt in count():
            try:
                with self._turn:
                    answer = requests.request(method, url, json=body, headers=headers, timeout=ANSWERED_WITHIN)
            except requests.Timeout:
                if time.monotonic() > until:
                    raise TimeoutError(f"{method} {path}: Airflow's API does not answer.") from None
                continue
            if answer.ok or (attempt and answer.status_code == 409):  # An earlier attempt has succeeded.
                return answer.json() if answer.content else None
            refusals += 1
            if answer.status_code < 500 or refusals == MOST_REFUSALS:
                break
            time.sleep(1)  # SQLite is locked now and then.
        raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")

    def wait_for_dags(self, *dag_ids: str) -> None:
        """Wait until the DAGs are known; fail at once if a file cannot be imported."""

        def known() -> bool:
            if errors := self.call("GET", "/importErrors")["import_errors"]:
                raise RuntimeError("\n".join(error["stack_trace"] for error in errors))
            missing = set(dag_ids)
            for start in count(0, 100):
                page = self.call("GET", f"/dags?limit=100&offset={start}")["dags"]
                missing -= {dag["dag_id"] for dag in page}
                if not page or not missing:
                    break
            return not missing

        wait_until(known, what=f"the DAGs {', '.join(dag_ids)}")

    def trigger(self, dag_id: str, **conf: Any) -> str:
        """Start a DAG run, and return its id."""
        run_id = f"manual__{uuid4()}"
        self.call("POST", f"/dags/{dag_id}/dagRuns", {**self.run_body, "dag_run_id": run_id, "conf": conf})
        return run_id

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a DAG run."""
        run: dict[str, Any] = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")
        return run

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return a task instance."""
        task: dict[str, Any] = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")
        return task

    def wait_for_task(self, dag_id: str, run_id: str, task_id: str, *states: str, timeout: float = PATIENCE) -> str:
        """Wait until a task instance is in one of the states, and return it.

        :raises TimeoutError: after ``timeout`` seconds, or once the task has been in another final state for a minute;
            with its state and the end of its log.
        """
        final_since: dict[str, float] = {}

        def state() -> str:
            now = self.task(dag_id, run_id, task_id)["state"]
            if now in FINAL_STATES and now not in states:
                if time.monotonic() - final_since.setdefault(now, time.monotonic()) > FINAL_FOR:
                    raise TimeoutError(f"{dag_id}.{task_id} is {now}, not {' or '.join(states)}")
            else:
                final_since.clear()
            return now if now in states else ""

        try:
            return wait_until(state, timeout=timeout, what=f"{dag_id}.{task_id} to become {' or '.join(states)}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self._how_it_is(dag_id, run_id, task_id)}") from None

    def _how_it_is(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Return a task instance, its run's state, and the end of its log."""
        task, run = self.task(dag_id, run_id, task_id), self.run(dag_id, run_id)
        log: Any = "It has no log."
        with suppress(Exception):  # A failure here must not hide the original error.
            path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{task['try_number']}"
            log = self.call("GET", f"{path}?full_content=true")
        return f"The run is {run['state']}, the task {task}\n{str(log)[-4000:]}"

    def clear(self, dag_id: str, run_id: str, task_id: str) -> float:
        """Clear a task instance, as a user does; return the time, in seconds since the epoch."""
        moment = time.time()
        self.call(
            "POST",
            f"/dags/{dag_id}/clearTaskInstances",
            {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], "only_failed": False},
        )
        return moment

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str) -> Any:
        """Return a task's XCom; None if it has not pushed one under this key."""
        tasks = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        entries = self.call("GET", f"{tasks}/{task_id}/xcomEntries")["xcom_entries"]
        if not any(entry["key"] == key for entry in entries):
            return None
        return self.call("GET", f"{tasks}/{task_id}/xcomEntries/{key}?deserialize=true")["value"]

    def clear_run(self, dag_id: str, run_id: str) -> None:
        """Clear all tasks of a DAG run."""
        self.call("POST", f"/dags/{dag_id}/dagRuns/{run_id}/clear", {"dry_run": False})

    def mark_task(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task instance ``failed`` or ``success``, as a user does."""
        self.call("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}", self.mark_body(state))

    def mark_body(self, state: str) -> dict[str, Any]:
        """Return the request body that marks a task instance."""
        return {"new_state": state}

    def pause(self, dag_id: str, *, paused: bool) -> None:
        """Pause or unpause a DAG."""
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": paused})

    def delete_run(self, dag_id: str, run_id: str) -> None:
        """Delete a DAG run."""
        self.call("DELETE", f"/dags/{dag_id}/dagRuns/{run_id}")

    def mark_run(self, dag_id: str, run_id: str, state: str) -> None:
        """Mark a DAG run ``failed`` or ``success``, as a user does."""
        self.call("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", {"state": state})


def wait_until(condition: Callable[[], T], *, what: str, timeout: float = PATIENCE, interval: float = 0.5) -> T:
    """Return the result of ``condition`` once it is true.

    :raises TimeoutError: after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(interval)
    return result


def seconds_since_epoch(timestamp: str) -> float:
    """Convert a timestamp of the REST API."""
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()
