"""The methods of both hooks. Each is written once, as a flow; names and durations are parsed here.

Follows https://developers.google.com/earth-engine/reference/rest/v1/projects.operations
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base import parameters
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
)
from airflow_ee_provider.hooks.base import ConnectionHook, hook_method

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


_INTERVAL = parameters.PollInterval("poll_interval")
_TIMEOUT, _TIMEOUT_OR_NONE = parameters.Seconds("timeout"), parameters.Seconds("timeout", is_optional=True)
_EECU_SECONDS = parameters.Number("max_eecu_seconds", is_optional=True)
_TOTAL = parameters.Number("max_total_eecu_seconds", is_optional=True)
_FAILURES = parameters.FailureBudget("max_failures")
_LIMIT = parameters.Integer("limit", is_optional=True)


class Methods(ConnectionHook):
    """Base of both hooks.

    :cvar is_awaited: Whether the methods are coroutines.
    """

    is_awaited = False

    @hook_method
    def get_operation(self, name: str | OperationName) -> Flow[Operation]:
        """Read an operation.

        :param name: ``projects/PROJECT/operations/ID``, or an id of the hook's project.
        :raises OperationNotFoundError: If Earth Engine does not know it.
        """
        return api_methods.get_operation(self.account.name(name))

    @hook_method
    def list_operations(self, project_id: str | None = None, *, active_only: bool = False) -> Flow[list[Operation]]:
        """List the operations of a project, of all users, including those that ended in the last days.

        :param project_id: The Cloud project. By default the hook's project.
        :param active_only: Return only operations that have not ended. Earth Engine lists all of them.
        """
        project = project_id or self.account.project
        return (yield from api_methods.list_operations(project, active_only=active_only)).operations

    @hook_method
    def list_stale_operations(self, criteria: StaleCriteria, limit: int | None = None) -> Flow[list[StaleOperation]]:
        """List the project's stale operations, the oldest first, each with the reason.

        Ages are measured by Earth Engine's clock.

        :param criteria: The criteria, with the names of the stale-operations operator's parameters.
        :param limit: Maximum number of operations. None for all.
        """
        return stale.list_stale_operations(self.account.project, criteria, _LIMIT.read(limit))

    @hook_method
    def cancel_operation(self, name: str | OperationName) -> Flow[None]:
        """Request a cancel, and return without confirmation.

        :param name: ``projects/PROJECT/operations/ID``, or an id of the hook's project.
        :raises FailedPreconditionError: If the operation has already ended.
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
        """Cancel operations and confirm each cancel. Errors of single operations are outcomes, not exceptions.

        :param names: One name or several.
        :param wait_for_completion: Wait for the confirmation. If False, return once the cancels are requested.
        :param poll_interval: Maximum time between two polls, in seconds or as a timedelta; at least 1 second.
        :param timeout: Maximum time to wait for the confirmation, in seconds or as a timedelta. After it, the outcome
            of unconfirmed cancels is STILL_CANCELLING.
        :raises InvalidOperationNameError: If one is not an operation's name; no request was sent.
        :raises ValueError: If ``poll_interval`` is shorter than 1 second; no request was sent.
        """
        parsed, interval, limit = self.account.names(names), _INTERVAL.read(poll_interval), _TIMEOUT.read(timeout)
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
        """Wait for the confirmation of cancels that were requested earlier.

        :param names: One name or several.
        :param poll_interval: Maximum time between two polls, in seconds or as a timedelta; at least 1 second.
        :param timeout: Maximum time to wait for the confirmation, in seconds or as a timedelta. After it, the outcome
            of unconfirmed cancels is STILL_CANCELLING.
        """
        requested = [CancelResult(name, CancelOutcome.STILL_CANCELLING) for name in self.account.names(names)]
        interval, limit = _INTERVAL.read(poll_interval), _TIMEOUT.read(timeout)
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
        """Read the operations that have not ended, once, and return the progress of all.

        :param names: One name or several.
        :param max_eecu_seconds: EECU-seconds that each operation may use before it is cancelled. None for no limit.
        :param max_total_eecu_seconds: EECU-seconds that all operations may use together before those that run are
            cancelled. None for no limit.
        :param progress: The return value of the last call. With it, operations that have ended are not read again, and
            only changes are logged.
        :raises ComputeLimitExceededError: If operations used more, after their cancel.
        """
        progress = Progress(tuple(self.account.names(names))) if progress is None else progress
        limits = WaitOptions(
            max_eecu_seconds=_EECU_SECONDS.read(max_eecu_seconds),
            max_total_eecu_seconds=_TOTAL.read(max_total_eecu_seconds),
        )
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
        """Poll until the operation has succeeded, failed or was cancelled, and return it.

        :param name: ``projects/PROJECT/operations/ID``, or an id of the hook's project.
        :param poll_interval: Maximum time between two polls, in seconds or as a timedelta; at least 1 second.
        :param timeout: Maximum time to wait, in seconds or as a timedelta. None for no limit.
        :param max_eecu_seconds: EECU-seconds that the operation may use before it is cancelled. None for no limit.
        :raises OperationTimeoutError: If it has not ended in that time; it keeps running.
        :raises ComputeLimitExceededError: If it used more, after its cancel.
        """
        options = WaitOptions(_INTERVAL.read(poll_interval), max_eecu_seconds=_EECU_SECONDS.read(max_eecu_seconds))
        limit = _TIMEOUT_OR_NONE.read(timeout)
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
        """Poll until all operations have ended, or more than ``max_failures`` have failed, and return them.

        :param names: One name or several.
        :param poll_interval: Maximum time between two polls, in seconds or as a timedelta; at least 1 second. New
            operations are polled more often.
        :param timeout: Maximum time to wait, in seconds or as a timedelta. None for no limit.
        :param stop_at_failure: Return as soon as more than ``max_failures`` have failed. If False, wait for the others
            first.
        :param max_eecu_seconds: EECU-seconds that each operation may use before it is cancelled. None for no limit.
        :param max_total_eecu_seconds: EECU-seconds that all operations may use together before those that run are
            cancelled. None for no limit.
        :param max_failures: How many operations may fail: a whole number, or a share below 1.
        :raises OperationTimeoutError: If some have not ended in that time; they keep running.
        :raises ComputeLimitExceededError: If operations used more, after their cancel.
        :raises ValueError: If ``poll_interval`` is shorter than 1 second; no request was sent.
        """
        options = WaitOptions(
            _INTERVAL.read(poll_interval),
            stop_at_failure,
            _EECU_SECONDS.read(max_eecu_seconds),
            _TOTAL.read(max_total_eecu_seconds),
            _FAILURES.read(max_failures),
        )
        limit = _TIMEOUT_OR_NONE.read(timeout)
        return waiting.wait_for_operations(self.account.names(names), options, timeout=limit)

    @hook_method
    def delete_operation(self, name: str | OperationName) -> Flow[None]:
        """Delete an operation from Earth Engine's list. This does not cancel it.

        :param name: ``projects/PROJECT/operations/ID``, or an id of the hook's project.
        """
        return api_methods.delete_operation(self.account.name(name))

    @hook_method
    def start_export(self, kind: str, body: Mapping[str, Any], request_id: str | None = None) -> Flow[Operation]:
        """Start an export and return its operation, which is PENDING.

        :param kind: ``image``, ``table``, ``video``, ``videoMap``, ``map`` or ``classifier``.
        :param body: The request's JSON, for example an ExportImageRequest.
        :param request_id: Up to 60 letters, digits and ``-``. Earth Engine starts only one operation for it, so the
            hook repeats the request if the answer is lost. Without it, a lost answer is an error.
        """
        return api_methods.start_export(self.account.project, kind, body, request_id)

    @hook_method
    def start_once(self, start: Start, stopped: Callable[[], bool] = lambda: False) -> Flow[Operation]:
        """Start an operation, or find the one that an earlier try of the same task started, and return it.

        :param start: The request, and the task that it belongs to.
        :param stopped: Called before each start request; returns True if no more operations may be started.
        :raises TransientError: If no more operations may be started.
        """
        return starting.start_once(self.account.project, start, stopped)

    @hook_method
    def start_all(
        self,
        starts: Sequence[Start],
        stopped: Callable[[Start], bool],
        as_done: Callable[[tuple[Start, Operation | EarthEngineError]], None],
    ) -> Flow[None]:
        """Start operations concurrently, within the API's rate limit; see `start_once`.

        :param as_done: Called with each operation, or with the error of its start, as soon as it is known.
        """
        return starting.start_all(self.account.project, starts, stopped, as_done)

    @hook_method
    def cancel_what_is_left(self, names: Any, starts: Sequence[Start], *, timeout: float) -> Flow[Left]:
        """Request the cancels of operations, and of starts that have no answer yet.

        :param names: One name or several.
        :param timeout: Seconds for all requests together.
        """
        account = self.account
        return exit_cleanup.cancel_what_is_left(account.default_project, account.names(names), starts, timeout=timeout)

    @hook_method
    def read_operations(
        self, names: Any, *, most_gets: int | None = None, timeout: float | timedelta | None = None
    ) -> Flow[dict[OperationName, Operation | EarthEngineError]]:
        """Read operations once, with few requests. The error of one operation does not affect the others.

        :param names: One name or several.
        :param most_gets: Maximum number of single reads. Others that the list does not show are missing. None for all.
        :param timeout: Maximum time until the last retry, in seconds or as a timedelta. None for no limit.
        """
        found: dict[OperationName, Operation | EarthEngineError] = yield ReadOperations(
            tuple(self.account.names(names)), within=_TIMEOUT_OR_NONE.read(timeout), most_gets=most_gets
        )
        return found

    @hook_method
    def wait_for_room(
        self, names: Any, *, unfinished: int, timeout: float | None, options: WaitOptions
    ) -> Flow[list[Operation]]:
        """Poll until at most ``unfinished`` of a task's operations run, or until ``timeout``; return them."""
        _INTERVAL.read(options.poll_interval)
        return waiting.wait_for_room(self.account.names(names), options, unfinished=unfinished, timeout=timeout)
