"""What both hooks offer: each method is written once, as a flow, and names and durations are read here.

Follows https://developers.google.com/earth-engine/reference/rest/v1/projects.operations
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.protocol import api_methods, cancelling, exit_cleanup, stale, starting, waiting
from airflow_ee_provider.earth_engine.protocol.cancelling import (
    CANCEL_POLL_INTERVAL,
    CANCEL_TIMEOUT,
    CancelOutcome,
    CancelResult,
)
from airflow_ee_provider.earth_engine.protocol.effects import ReadOperations
from airflow_ee_provider.earth_engine.protocol.waiting import (
    POLL_INTERVAL,
    Progress,
    WaitOptions,
    in_seconds,
    interval_in_seconds,
)
from airflow_ee_provider.hooks.binding import hook_method
from airflow_ee_provider.hooks.connection import ConnectionHook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.model.operations import Operation
    from airflow_ee_provider.earth_engine.protocol.effects import Flow
    from airflow_ee_provider.earth_engine.protocol.exit_cleanup import Left
    from airflow_ee_provider.earth_engine.protocol.stale import StaleCriteria, StaleOperation
    from airflow_ee_provider.earth_engine.protocol.starting import Start


class Methods(ConnectionHook):
    """The table of the hooks' methods.

    :cvar is_awaited: whether the methods are coroutines.
    """

    is_awaited = False

    @hook_method
    def get_operation(self, name: str | OperationName) -> Flow[Operation]:
        """Return the operation as it is now.

        :param name: ``projects/PROJECT/operations/ID``, or an id of the hook's project.
        :raises OperationNotFoundError: if Earth Engine does not know it.
        """
        return api_methods.get_operation(self.account.name(name))

    @hook_method
    def list_operations(self, project_id: str | None = None) -> Flow[list[Operation]]:
        """Return all operations of a project, of every user; those that ended some days ago included.

        :param project_id: by default the hook's project.
        """
        return (yield from api_methods.list_operations(project_id or self.account.project)).operations

    @hook_method
    def list_stale_operations(self, criteria: StaleCriteria, limit: int | None = None) -> Flow[list[StaleOperation]]:
        """Return the project's stale operations, the oldest first, each with the reason.

        Ages are by Earth Engine's clock.

        :param criteria: what makes an operation stale.
        :param limit: how many at most; None for all.
        """
        return stale.list_stale_operations(self.account.project, criteria, limit)

    @hook_method
    def cancel_operation(self, name: str | OperationName) -> Flow[None]:
        """Ask Earth Engine to cancel, and return without knowing whether it will.

        :raises FailedPreconditionError: if the operation cannot be cancelled any more.
        """
        return api_methods.cancel_operation(self.account.name(name))

    @hook_method
    def cancel_operations(
        self,
        names: Any,
        *,
        wait_for_completion: bool = True,
        poll_interval: float | timedelta = CANCEL_POLL_INTERVAL,
        timeout: float | timedelta = CANCEL_TIMEOUT,
    ) -> Flow[list[CancelResult]]:
        """Cancel what runs and confirm it; one outcome for each, errors included, and no exception for them.

        :param names: one name or several.
        :param wait_for_completion: False returns once the cancels are requested.
        :param poll_interval: between two polls of what is still cancelling, at most; in seconds, or as a timedelta;
            1 s or more.
        :param timeout: to wait for the confirmation, in seconds or as a timedelta; what is not confirmed by then has
            the outcome STILL_CANCELLING.
        :raises InvalidOperationNameError: before anything is sent, if one of them is not a name.
        :raises ValueError: before anything is sent, if ``poll_interval`` is shorter than 1 s.
        """
        parsed, interval, limit = self.account.names(names), interval_in_seconds(poll_interval), in_seconds(timeout)
        if not wait_for_completion:
            return cancelling.request_cancels(parsed, timeout=limit)
        return cancelling.cancel_and_confirm(parsed, poll_interval=interval, timeout=limit)

    @hook_method
    def confirm_cancels(
        self,
        names: Any,
        *,
        poll_interval: float | timedelta = CANCEL_POLL_INTERVAL,
        timeout: float | timedelta = CANCEL_TIMEOUT,
    ) -> Flow[list[CancelResult]]:
        """Wait for the confirmation of cancels that were requested before; see `cancel_operations`."""
        requested = [CancelResult(name, CancelOutcome.STILL_CANCELLING) for name in self.account.names(names)]
        interval, limit = interval_in_seconds(poll_interval), in_seconds(timeout)
        return cancelling.confirm_cancels(requested, poll_interval=interval, timeout=limit)

    @hook_method
    def poll_operations(
        self,
        names: Any,
        *,
        max_eecu_seconds: float | None = None,
        max_total_eecu_seconds: float | None = None,
        progress: Progress | None = None,
    ) -> Flow[Progress]:
        """Read once what has not ended yet, and return what is known of all.

        :param names: one name or several.
        :param max_eecu_seconds: EECU-seconds that each may use before it is cancelled; None for no limit.
        :param max_total_eecu_seconds: EECU-seconds that all may use together before what runs is cancelled; None for
            no limit.
        :param progress: what the last call has returned: what has ended is not read again, and the log shows only what
            is new since.
        :raises ComputeLimitExceededError: if one used more, once it is known what became of it.
        """
        progress = Progress(self.account.names(names)) if progress is None else progress
        limits = WaitOptions(max_eecu_seconds=max_eecu_seconds, max_total_eecu_seconds=max_total_eecu_seconds)
        yield from waiting.poll_operations(progress, limits)
        return progress

    @hook_method
    def wait_for_operation(
        self,
        name: str | OperationName,
        *,
        poll_interval: float | timedelta = POLL_INTERVAL,
        timeout: float | timedelta | None = None,
        max_eecu_seconds: float | None = None,
    ) -> Flow[Operation]:
        """Poll until the operation has ended, well or not, and return it; the parameters of `wait_for_operations`."""
        options = WaitOptions(interval_in_seconds(poll_interval), max_eecu_seconds=max_eecu_seconds)
        limit = None if timeout is None else in_seconds(timeout)
        [operation] = yield from waiting.wait_for_operations([self.account.name(name)], options, timeout=limit)
        return operation

    @hook_method
    def wait_for_operations(
        self,
        names: Any,
        *,
        poll_interval: float | timedelta = POLL_INTERVAL,
        timeout: float | timedelta | None = None,
        stop_at_failure: bool = True,
        max_eecu_seconds: float | None = None,
        max_total_eecu_seconds: float | None = None,
        max_failures: float = 0,
    ) -> Flow[list[Operation]]:
        """Poll until all have ended, or one more than may fail has failed, and return them.

        :param names: one name or several.
        :param poll_interval: between two polls, at most; what has just begun is read more often. In seconds, or as a
            timedelta; 1 s or more.
        :param timeout: to wait, in seconds or as a timedelta; None for no limit.
        :param stop_at_failure: False waits for the others although one has failed.
        :param max_eecu_seconds: EECU-seconds that each may use before it is cancelled; None for no limit.
        :param max_total_eecu_seconds: EECU-seconds that all may use together before what runs is cancelled; None for
            no limit.
        :param max_failures: how many may fail: a number, or a share below 1.
        :raises OperationTimeoutError: if some have not ended by then; they run on.
        :raises ComputeLimitExceededError: if one used more, once it is known what became of it.
        :raises ValueError: before anything is sent, if ``poll_interval`` is shorter than 1 s.
        """
        interval = interval_in_seconds(poll_interval)
        options = WaitOptions(interval, stop_at_failure, max_eecu_seconds, max_total_eecu_seconds, max_failures)
        limit = None if timeout is None else in_seconds(timeout)
        return waiting.wait_for_operations(self.account.names(names), options, timeout=limit)

    @hook_method
    def delete_operation(self, name: str | OperationName) -> Flow[None]:
        """Make Earth Engine forget an operation. This does not cancel it."""
        return api_methods.delete_operation(self.account.name(name))

    @hook_method
    def start_export(self, kind: str, body: Mapping[str, Any], request_id: str | None = None) -> Flow[Operation]:
        """Start an export and return its operation, PENDING.

        :param kind: ``image``, ``table``, ``video``, ``videoMap``, ``map`` or ``classifier``.
        :param body: the API's own JSON, for example an ExportImageRequest.
        :param request_id: up to 60 letters, digits and ``-``. Earth Engine starts only one operation for it, so that
            a lost answer is asked for again; without it, a lost answer is an error.
        """
        return api_methods.start_export(self.account.project, kind, body, request_id)

    @hook_method
    def start_once(self, start: Start, stopped: Callable[[], bool] = lambda: False) -> Flow[Operation]:
        """Start an operation, or find the one that an earlier try of the same task has started, and return it.

        :param start: what, and for whom.
        :param stopped: asked before each request that starts something: True once nothing more is to be started.
        :raises TransientError: if nothing more is to be started.
        """
        return starting.start_once(self.account.project, start, stopped)

    @hook_method
    def start_all(
        self,
        starts: Sequence[Start],
        stopped: Callable[[Start], bool],
        as_done: Callable[[tuple[Start, Operation | EarthEngineError]], None],
    ) -> Flow[None]:
        """Start operations side by side, at the API's pace; see `start_once`.

        :param as_done: called with each operation, or why it was not started, as soon as that is known.
        """
        return starting.start_all(self.account.project, starts, stopped, as_done)

    @hook_method
    def cancel_what_is_left(self, names: Any, starts: Sequence[Start], *, timeout: float) -> Flow[Left]:
        """Request the cancels of operations, and of what was asked to be started and is not answered yet.

        :param names: one name or several.
        :param timeout: seconds for all of it.
        """
        account = self.account
        return exit_cleanup.cancel_what_is_left(account.default_project, account.names(names), starts, timeout=timeout)

    @hook_method
    def read_operations(self, names: Any) -> Flow[dict[OperationName, Operation | EarthEngineError]]:
        """Read operations once, with the fewest requests; an error is the answer for its operation alone.

        :param names: one name or several.
        """
        found: dict[OperationName, Operation | EarthEngineError] = yield ReadOperations(
            tuple(self.account.names(names))
        )
        return found

    @hook_method
    def wait_for_room(
        self, names: Any, *, unfinished: int, timeout: float | None, options: WaitOptions
    ) -> Flow[list[Operation]]:
        """Poll until no more than ``unfinished`` of a task's operations run, or for so many seconds; return them."""
        interval_in_seconds(options.poll_interval)
        return waiting.wait_for_room(self.account.names(names), options, unfinished=unfinished, timeout=timeout)
