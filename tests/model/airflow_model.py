"""A model of Airflow: one task, its tries, its trigger, and what users and failures do to them.

Each transition was seen on a real Airflow (`shared/airflow.md`, docs/results/lifecycle.md). `database_model.VERSIONS`
has the differences between the versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout
from database_model import SCHEDULER, TERMINAL, Database, Version
from triggerer_model import Triggerer
from worker_model import FunctionError, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from world import World


class Airflow(Database):
    """A database, a worker, a triggerer, and the actions of users.

    :param make: returns the task's operator; called in each process.
    :param retries: the task's retries.
    """

    def __init__(self, world: World, version: Version, make: Callable[[], Any], *, retries: int = 1) -> None:
        super().__init__(world, version, retries)
        self.collector: Any = None
        self.worker, self.triggerer = Worker(self, make), Triggerer(self)
        world.after(0.5, self.worker.start)

    def _user_acts(self) -> bool:
        if self.row.state in TERMINAL or self.run_state != "running":
            return False
        self.want_no_more()
        self.is_user_action = True
        return True

    def mark(self, state: str) -> None:
        """Mark the task ``failed`` or ``success``."""
        if self._user_acts():
            self.row.state, self.row.next_method = state, ""
            if state == "failed":
                self.run_state = "failed"

    def tell(self, act: Callable[..., None], *how: Any) -> None:
        """Let a user act just before a heartbeat, so that the worker learns of it at once."""
        process = self.row.process
        act(*how)
        if process is not None and self.row.process is process and self.row.state not in ("running", "deferred"):
            self.worker.heartbeat(process)

    def clear(self) -> None:
        """Clear the task."""
        if self._user_acts():
            row = self.row
            row.max_tries = row.try_number + self.retries
            was = row.state
            if was == "running":
                row.state = "restarting"
                return
            row.state, row.next_method, row.trigger = "scheduled", "", None
            self.world.after(SCHEDULER, self.worker.start)

    def end_run(self, how: str) -> None:
        """Mark the run failed, delete it, or let it time out."""
        if self._user_acts():
            self.row.state, self.row.next_method = ("skipped" if how == "timed out" else "failed"), ""
            if how == "deleted":
                self.row.state = "removed"
            self.run_state = "failed"

    def end_run_alone(self) -> None:
        """End the run, but not its task: on SQLite, a late write of the task can restore its state."""
        if self._user_acts():
            self.run_state = "failed"

    def fail(self, *, by_policy: bool = False) -> None:
        """Raise an error in the task, such as one of the user's function.

        :param by_policy: whether the retry policy fails the task for good although it has tries left.
        """
        process, row = self.row.process, self.row
        if row.state != "running" or process is None or not process.is_executing or process.is_to_end:
            return
        if by_policy or row.after_failure == "failed":
            self.want_no_more()

        def handler() -> None:
            if process.is_executing:
                raise FunctionError(is_for_good=by_policy)

        process.signal(handler)

    def time_out(self) -> None:
        """Let the `execution_timeout` pass while the task runs in a process."""
        process = self.row.process
        if self.row.state == "running" and process is not None and process.is_running and process.is_timed:
            self.want_no_more()

            def handler() -> None:
                if ending := getattr(process.operator, "ending", None):
                    ending.execution_ends = self.world.now  # The strike sets the time, not a parameter.
                raise AirflowTaskTimeout("Timeout")

            process.signal(handler)
