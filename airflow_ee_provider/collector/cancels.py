"""Cancel operations for the collector: with the account that started each, and only in that account's project."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.parameters import CONNECTION_FIELDS
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, OperationNotFoundError
from airflow_ee_provider.earth_engine.model.log_text import abbreviated
from airflow_ee_provider.earth_engine.model.metrics import measure_cancels
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.model.operations import Operation
from airflow_ee_provider.earth_engine.protocol.cancelling import CancelOutcome
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.tracking.audit import COLLECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_ee_provider.collector.look import Instance

#: The ``cause`` of these cancels in the metrics.
CAUSE = "collector"

#: How often a cancel's confirmation is polled, and for how long, in seconds. A later check confirms the others.
CONFIRM: dict[str, Any] = {"poll_interval": 2.0, "timeout": 20.0}

#: Seconds until the next attempt, if a request failed or a cancel is not confirmed.
ASKED_AGAIN_AFTER = (15.0, 30.0, 60.0, 120.0, 300.0, 900.0)

#: The most operations that one check reads with a request each, per account. A record can have thousands of names that
#: no list of Earth Engine contains.
MOST_GETS = 500

#: After how long an operation has surely ended: it can run for ten days, and wait before that.
LONGEST_RUN = timedelta(days=11)

#: The account for records that name none.
_DEFAULT = dict.fromkeys(CONNECTION_FIELDS) | {"earth_engine_conn_id": EarthEngineHook.default_conn_name}


@dataclass(frozen=True)
class Unneeded:
    """The operations of a task instance that no task needs.

    :param reason: The reason, as the log shows it after the task's name.
    :param operations: Each operation's name with the account that cancels it; None for the default connection's.
    """

    instance: Instance
    reason: str
    operations: tuple[tuple[dict[str, Any] | None, str], ...]


def _account_of(recorded: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Return the `CONNECTION_FIELDS` of a recorded account, with a text that identifies it."""
    parameters = {key: (recorded or _DEFAULT).get(key) for key in CONNECTION_FIELDS}
    return repr(sorted(parameters.items())), parameters


def _may_run(state: Operation | EarthEngineError | None) -> bool:
    """Whether an operation may still run, by what was read; None if it was not read."""
    return not state.done if isinstance(state, Operation) else not isinstance(state, OperationNotFoundError)


@dataclass
class _Pause:
    """A pause before the next attempt; it gets longer with each attempt."""

    attempts: int = 0
    until: float = 0.0

    def begin(self, now: float) -> None:
        self.until = now + ASKED_AGAIN_AFTER[min(self.attempts, len(ASKED_AGAIN_AFTER) - 1)]
        self.attempts += 1


@dataclass
class _Account:
    """An account, and the pause after a failed request with it."""

    parameters: dict[str, Any]
    pause: _Pause = field(default_factory=_Pause)
    said: str = ""


@dataclass
class Cancels:
    """Cancels operations, confirms the cancels, and tries again after a failed request.

    :param open_hook: Opens a hook with the `CONNECTION_FIELDS`.
    :param audit: Writes rows into Airflow's audit log before the operations are cancelled. Each row has the owner, the
        extra, and the task instance.
    """

    log: Any
    open_hook: Callable[..., EarthEngineHook]
    audit: Callable[[Sequence[tuple[str, dict[str, Any], Any]]], None]
    now: Callable[[], float] = time.monotonic
    _accounts: dict[str, _Account] = field(default_factory=dict)
    #: Operations that are not finished yet, and the pause before each one's next attempt.
    _unfinished: dict[str, _Pause] = field(default_factory=dict)
    _announced: set[str] = field(default_factory=set)
    #: When `running` has first found an operation.
    _first_read: dict[str, float] = field(default_factory=dict)

    def cancel(self, unneeded: Iterable[Unneeded]) -> set[str]:
        """Cancel operations, and return the names of those that need no further attempt."""
        by_account: defaultdict[str, dict[str, Unneeded]] = defaultdict(dict)
        for one in unneeded:
            for recorded, name in one.operations:
                key, parameters = _account_of(recorded)
                self._accounts.setdefault(key, _Account(parameters))
                by_account[key][name] = one
        done: set[str] = set()
        for key, of_name in by_account.items():
            account = self._accounts[key]
            due = {name: one for name, one in of_name.items() if self._is_due(name)}
            if not due or self.now() < account.pause.until:
                continue
            try:
                finished, unread = self._cancel(account, due)
            except Exception as error:  # noqa: BLE001 (a secrets backend or a database may raise any exception)
                self._say(account, f"Could not cancel {abbreviated(due)}; trying again later: {error}")
                account.pause.begin(self.now())
                continue
            account.pause = _Pause()
            for name in due.keys() - finished - unread:
                self._unfinished.setdefault(name, _Pause()).begin(self.now())
            done |= finished
        self._announced -= done
        self._unfinished = {name: pause for name, pause in self._unfinished.items() if name not in done}
        return done

    def running(self, operations: Iterable[tuple[dict[str, Any] | None, str]]) -> set[str]:
        """Return which operations may still run, including those that cannot be read, for `LONGEST_RUN` at most.

        :param operations: Each operation's name, with its account; None for the default connection's.
        """
        by_account: defaultdict[str, list[str]] = defaultdict(list)
        accounts: dict[str, dict[str, Any]] = {}
        for recorded, name in operations:
            key, accounts[key] = _account_of(recorded)
            by_account[key].append(name)
        found: set[str] = set()
        for key, names in by_account.items():
            try:
                hook = self.open_hook(**accounts[key])
                read = hook.read_operations(names, most_gets=MOST_GETS, timeout=CONFIRM["timeout"])
            except Exception as error:  # noqa: BLE001 (a secrets backend or a database may raise any exception)
                self.log.info("Could not read %s; trying again later: %s", abbreviated(names), error)
                found.update(names)
                continue
            states = {str(name): state for name, state in read.items()}
            found.update(name for name in names if _may_run(states.get(name)))
        self._first_read = {name: self._first_read.get(name, self.now()) for name in found}
        return {name for name, since in self._first_read.items() if self.now() - since < LONGEST_RUN.total_seconds()}

    def _is_due(self, name: str) -> bool:
        return name not in self._unfinished or self.now() >= self._unfinished[name].until

    def _cancel(self, account: _Account, of_name: dict[str, Unneeded]) -> tuple[set[str], set[str]]:
        """Cancel the operations that still run; return the finished ones, and those that the next check must read."""
        hook = self.open_hook(**account.parameters)
        may = {hook.account.default_project, account.parameters["project_id"]}
        names = [name for name in of_name if OperationName.parse(name).project in may]
        foreign = of_name.keys() - set(names)
        if foreign:  # An XCom can be written by others than its task.
            self.log.warning(
                "Not cancelling %s of %s: their project is neither that of the connection %r nor the project_id that "
                "the task recorded.",
                abbreviated(sorted(foreign)),
                abbreviated(sorted({of_name[name].instance.name for name in foreign})),
                account.parameters["earth_engine_conn_id"],
            )
        if not names:
            return set(foreign), set()
        read = hook.read_operations(names, most_gets=MOST_GETS, timeout=CONFIRM["timeout"])
        found = {str(name): state for name, state in read.items()}
        errors = {name: state for name, state in found.items() if isinstance(state, EarthEngineError)}
        ended = {name for name, state in found.items() if name not in errors and state.done}  # type: ignore[union-attr]
        unknown = {name for name, error in errors.items() if isinstance(error, OperationNotFoundError)}
        active = [name for name in names if name in found and name not in errors and name not in ended]
        if failed := errors.keys() - unknown:
            error = errors[min(failed)]
            if len(failed) == len(found):
                raise error
            self._say(account, f"Could not read {abbreviated(sorted(failed))}; trying again later: {error}")
        done = set(foreign) | ended | unknown
        if active:
            done |= self._cancel_active(hook, account, active, of_name)
        return done, set(names) - found.keys()

    def _cancel_active(
        self, hook: EarthEngineHook, account: _Account, active: list[str], of_name: dict[str, Unneeded]
    ) -> set[str]:
        self._announce(account, [name for name in active if name not in self._announced], of_name)
        self._announced.update(active)
        done: set[str] = set()
        by_dag: defaultdict[str, list[CancelOutcome]] = defaultdict(list)
        for result in hook.cancel_operations(active, **CONFIRM):
            name = str(result.name)
            if result.outcome.is_fine(not_found_ok=True):
                done.add(name)
            elif result.outcome is not CancelOutcome.STILL_CANCELLING:
                self._say(account, f"{result.describe()}; trying again later.")
                continue
            else:
                continue
            by_dag[of_name[name].instance.dag_id].append(result.outcome)
        for dag_id, outcomes in by_dag.items():
            measure_cancels(outcomes, CAUSE, dag_id)
        return done

    def _announce(self, account: _Account, names: list[str], of_name: dict[str, Unneeded]) -> None:
        """Write a line for each task instance into the log, and a row for each operation into Airflow's audit log."""
        by_instance: defaultdict[Instance, list[str]] = defaultdict(list)
        for name in names:
            by_instance[of_name[name].instance].append(name)
        rows = []
        for instance, ones in by_instance.items():
            reason = of_name[ones[0]].reason
            text = "%s %s, and no task needs its operations. Cancelling %s."
            self.log.warning(text, instance.name, reason, abbreviated(ones))
            key = instance.key
            holder = SimpleNamespace(
                dag_id=instance.dag_id,
                run_id=instance.run_id,
                task_id=key.task_id,
                map_index=key.map_index,
                try_number=instance.try_number,
            )
            about = {"connection": account.parameters["earth_engine_conn_id"], "reason": f"its task {reason}"}
            rows += [(COLLECTOR, {"operation": name, **about}, holder) for name in ones]
        if rows:
            try:
                self.audit(rows)
            except Exception as error:  # noqa: BLE001 (the cancel matters more)
                self.log.warning("Could not write these cancels to Airflow's audit log: %s", error)

    def _say(self, account: _Account, text: str) -> None:
        """Log a warning, unless it is the same as the account's last one."""
        if account.said != text:
            account.said = text
            self.log.warning("%s", text)
