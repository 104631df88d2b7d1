"""Notifiers that cancel operations from callbacks."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import BaseNotifier

from airflow_ee_provider.base import parameters
from airflow_ee_provider.base.errors import has_tries_left, log_errors
from airflow_ee_provider.base.parameters import connection_kwargs
from airflow_ee_provider.base.process import ask_airflow, runs_a_task
from airflow_ee_provider.earth_engine.model.log_text import abbreviated
from airflow_ee_provider.lifecycle.cancelling import cancel_before_the_end, report_cancels
from airflow_ee_provider.tracking.run import groups_to_cancel, records_of_run
from airflow_ee_provider.tracking.store import records_of_task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.protocol.cancelling import CancelResult

T = TypeVar("T")

#: Seconds to wait for Airflow's answer with the records. In a `SyncCallback` of a deadline, Airflow never answers.
LOOK_UP_TIMEOUT = 20.0

#: The attributes of a DAG and of a task that contain callbacks.
_CALLBACKS = tuple(f"on_{event}_callback" for event in ("failure", "success", "retry", "skipped", "execute"))


_CHECKED = (
    *parameters.CONNECTION,
    parameters.PollInterval("poll_interval"),
    parameters.Seconds("cancel_timeout"),
    parameters.Flag("wait_for_completion"),
    parameters.Flag("not_found_ok"),
)


class EarthEngineCancelOperationsNotifier(BaseNotifier):
    """
    Cancel operations from a callback of a task or a DAG, such as ``on_failure_callback``.

    Without ``operation_names``, the notifier cancels operations that tasks have recorded, each with the connection,
    project and impersonation chain that started it. It logs the outcome of each cancel and raises no error, so that
    users see the error that the callback was called for.

    For a `DeadlineAlert`, use an ``AsyncCallback``. In a ``SyncCallback``, Airflow does not answer questions about the
    run, so you must set ``operation_names`` there.

    :param operation_names: One name or a list of names, ``projects/PROJECT/operations/ID`` or an id of the connection's
        project. If a template renders it to an empty value, nothing is cancelled (templated).
    :param scope: The tasks whose recorded operations are cancelled if you do not set ``operation_names``: ``task`` (the
        task whose callback this is) or ``run`` (all tasks of the run). By default ``task`` in a callback of a task, and
        ``run`` in a callback of a DAG or of a deadline.
    :param earth_engine_conn_id: The connection to Earth Engine; None for Application Default Credentials (templated).
    :param project_id: The Cloud project of bare ids. By default the connection's project (templated).
    :param impersonation_chain: One service account to impersonate, or a chain of them; the last one calls Earth Engine
        (templated).
    :param wait_for_completion: Wait until Earth Engine confirms the cancels.
    :param poll_interval: Maximum time between two polls of what is still cancelling, in seconds or as a timedelta; at
        least 1 second.
    :param not_found_ok: Do not log an error for an operation that Earth Engine does not know.
    :param cancel_timeout: Maximum time to wait for the confirmation, in seconds or as a timedelta. A DAG's callbacks
        run in the dag-processor, which stops them after ``[dag_processor] dag_file_processor_timeout`` (50 s by
        default).
    """

    template_fields: Sequence[str] = ("operation_names", "earth_engine_conn_id", "project_id", "impersonation_chain")

    def __init__(
        self,
        *,
        operation_names: Any = parameters.NotGiven,
        scope: str | None = None,
        earth_engine_conn_id: str | None = "earth_engine_default",
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        wait_for_completion: bool | str = True,
        poll_interval: float | timedelta = 2.0,
        cancel_timeout: float | timedelta = 30.0,
        not_found_ok: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._are_given = operation_names is not parameters.NotGiven
        self.operation_names = operation_names if self._are_given else ()
        self.scope = parameters.scope(scope, ("task", "run"), are_names_given=self._are_given)
        self.earth_engine_conn_id = earth_engine_conn_id
        self.project_id = project_id
        self.impersonation_chain = impersonation_chain
        self.wait_for_completion: Any = wait_for_completion
        self.poll_interval = poll_interval
        self.cancel_timeout = cancel_timeout
        self.not_found_ok: Any = not_found_ok
        parameters.check(self, _CHECKED)

    def __call__(self, *args: Any) -> None:
        """Notify with a copy: rendering changes the templated fields, and Airflow may call one notifier again."""
        notifier = copy.copy(self)
        notifier._original = self  # noqa: SLF001 (it is of this class)
        super(EarthEngineCancelOperationsNotifier, notifier).__call__(*args)

    #: The notifier that the DAG's file made; Airflow's list of callbacks contains that one.
    _original: EarthEngineCancelOperationsNotifier | None = None

    def notify(self, context: Context) -> None:
        """Cancel, synchronously: in a worker or in the dag-processor."""
        from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

        groups: list[tuple[dict[str, Any], Any]] = []
        with log_errors(self.log):
            groups = _in_time(lambda: self._groups(context)) if "ti" not in context else self._groups(context)
        for account, names in groups:
            with log_errors(self.log):
                hook = EarthEngineHook(**account)
                if self._is_followed_by_a_try(
                    context
                ):  # The next try may continue with the operations, so no detached process may cancel them later.
                    results = hook.cancel_operations(names, **self._how)
                else:
                    results = cancel_before_the_end(hook, names, self.log, **self._how)
                self._report(results, context)

    async def async_notify(self, context: Context) -> None:
        """Cancel, asynchronously: in the triggerer."""
        from asgiref.sync import sync_to_async

        from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook

        groups: list[tuple[dict[str, Any], Any]] = []
        with log_errors(self.log):
            groups = await sync_to_async(self._groups)(context)
        for account, names in groups:
            with log_errors(self.log):
                results = await EarthEngineAsyncHook(**account).cancel_operations(names, **self._how)
                self._report(results, context)

    def _is_followed_by_a_try(self, context: Context) -> bool:
        """Whether Airflow tries the task again after this callback."""
        notifier, ti = self._original or self, context.get("ti")
        is_for_retries = _has_callback(getattr(ti, "task", None), notifier, ("on_retry_callback",))
        return is_for_retries and not _is_of_run(notifier, context) and has_tries_left(ti)

    def _report(self, results: Sequence[CancelResult], context: Context) -> None:
        dag_id = getattr(context.get("ti"), "dag_id", None)
        report_cancels(results, self.log, cause="callback", dag_id=dag_id, not_found_ok=self.not_found_ok)

    @property
    def _how(self) -> dict[str, Any]:
        return {
            "wait_for_completion": self.wait_for_completion,
            "poll_interval": self.poll_interval,
            "timeout": self.cancel_timeout,
        }

    def _groups(self, context: Context) -> list[tuple[dict[str, Any], Any]]:
        """Return the operations to cancel, by the account that cancels them."""
        parameters.check_rendered(self, parameters.CONNECTION)
        whose = self.scope or ("run" if _is_of_run(self._original or self, context) else "task")
        if self._are_given:
            groups = [(connection_kwargs(self), self.operation_names)] if self.operation_names else []
        else:
            found = records_of_run(context) if whose == "run" else records_of_task(context)
            groups, _ = groups_to_cancel(found, context, connection_kwargs(self), self.log)
        for account, names in groups:
            self.log.warning(
                "Cancelling the Earth Engine operations of the %s, as %s: %s.",
                whose,
                account["earth_engine_conn_id"] or "the Application Default Credentials",
                _shown(names),
            )
        if not groups:
            self.log.info("The %s has recorded no Earth Engine operation: there is nothing to cancel.", whose)
        return groups


def _shown(names: Any) -> Any:
    """Return names as text for a log; the value may be anything, because it is not parsed yet."""
    return names if isinstance(names, str) or not isinstance(names, Iterable) else abbreviated(names)


def _is_of_run(notifier: EarthEngineCancelOperationsNotifier, context: Context) -> bool:
    """Whether a notifier was called as a callback of the DAG, or of a deadline, rather than of a task.

    In the task's own process, no key of the context proves it, because a function's arguments are merged into the
    context. A DAG's callback runs elsewhere, and its context has a reason.
    """
    ti = context.get("ti")
    if ti is None:
        return True
    has = [_has_callback(context.get("dag"), notifier), _has_callback(getattr(ti, "task", None), notifier)]
    if has in ([True, False], [False, True]):
        return has[0]
    return "reason" in context and not runs_a_task(ti)


def _has_callback(holder: Any, notifier: object, names: Iterable[str] = _CALLBACKS) -> bool:
    for name in names:
        callbacks = getattr(holder, name, None)
        if any(
            callback is notifier for callback in (callbacks if isinstance(callbacks, (list, tuple)) else [callbacks])
        ):
            return True
    return False


def _in_time(look_up: Callable[[], T]) -> T:
    try:
        return ask_airflow(look_up, LOOK_UP_TIMEOUT)
    except TimeoutError:
        raise TimeoutError(
            f"Airflow did not return the run's operations within {LOOK_UP_TIMEOUT:g} s; in a SyncCallback it never "
            "does. Use AsyncCallback for the deadline, or set operation_names."
        ) from None
