"""How the collector cancels: in the name of whoever started an operation, and only what that account's project has."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.connection import CONNECTION_FIELDS
from airflow_ee_provider.base.measuring import measure_cancels
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, OperationNotFoundError
from airflow_ee_provider.earth_engine.model.log_text import abbreviated
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.protocol.cancelling import CancelOutcome
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.tracking.audit import COLLECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_ee_provider.collector.look import Instance

#: Of the cancels, for the metrics.
CAUSE = "collector"

#: For how long a cancel is confirmed, and how often, in seconds; what is not confirmed by then is confirmed later.
CONFIRM: dict[str, Any] = {"poll_interval": 2.0, "timeout": 20.0}

#: Seconds until an account is asked again that could not be asked, or whose cancels are not confirmed.
ASKED_AGAIN_AFTER = (15.0, 30.0, 60.0, 120.0, 300.0, 900.0)

#: How many operations of an account that no list shows are read in a look: a record can have thousands of names that
#: Earth Engine does not know, and each costs a request.
MOST_GETS = 500

#: The account of what was recorded without one.
_DEFAULT = dict.fromkeys(CONNECTION_FIELDS) | {"earth_engine_conn_id": EarthEngineHook.default_conn_name}


@dataclass(frozen=True)
class Unneeded:
    """What no task needs of what a task instance has recorded.

    :param reason: as it stands in the log after the task's name.
    :param operations: each with the account in whose name it is cancelled; None for the default connection's.
    """

    instance: Instance
    reason: str
    operations: tuple[tuple[dict[str, Any] | None, str], ...]


@dataclass
class _Pause:
    """How long something is not asked again: longer each time."""

    attempts: int = 0
    until: float = 0.0

    def begin(self, now: float) -> None:
        self.until = now + ASKED_AGAIN_AFTER[min(self.attempts, len(ASKED_AGAIN_AFTER) - 1)]
        self.attempts += 1


@dataclass
class _Account:
    """An account, and for how long it is not asked again after it could not be asked."""

    parameters: dict[str, Any]
    pause: _Pause = field(default_factory=_Pause)
    said: str = ""


@dataclass
class Cancels:
    """Cancels, confirms, and asks again where Earth Engine was away.

    :param open_hook: opens a hook with the `CONNECTION_FIELDS`.
    :param audit: writes what is about to be cancelled into Airflow's audit log: owner, extra, holder of each.
    """

    log: Any
    open_hook: Callable[..., EarthEngineHook]
    audit: Callable[[Sequence[tuple[str, dict[str, Any], Any]]], None]
    now: Callable[[], float] = time.monotonic
    _accounts: dict[str, _Account] = field(default_factory=dict)
    #: Operations that are not dealt with yet, and for how long each is not asked again.
    _unfinished: dict[str, _Pause] = field(default_factory=dict)
    _announced: set[str] = field(default_factory=set)

    def cancel(self, unneeded: Iterable[Unneeded]) -> set[str]:
        """Cancel operations; returns those of which nothing is left to do."""
        by_account: defaultdict[str, dict[str, Unneeded]] = defaultdict(dict)
        for one in unneeded:
            for recorded, name in one.operations:
                parameters = {key: (recorded or _DEFAULT).get(key) for key in CONNECTION_FIELDS}
                key = repr(sorted(parameters.items()))
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
            except Exception as error:  # noqa: BLE001 (a secrets backend, a database raise what they like)
                self._say(account, f"{abbreviated(due)} cannot be cancelled now, which is tried again: {error}")
                account.pause.begin(self.now())
                continue
            account.pause = _Pause()
            for name in due.keys() - finished - unread:
                self._unfinished.setdefault(name, _Pause()).begin(self.now())
            done |= finished
        self._announced -= done
        self._unfinished = {name: pause for name, pause in self._unfinished.items() if name not in done}
        return done

    def _is_due(self, name: str) -> bool:
        return name not in self._unfinished or self.now() >= self._unfinished[name].until

    def _cancel(self, account: _Account, of_name: dict[str, Unneeded]) -> tuple[set[str], set[str]]:
        """Read what still runs, and cancel that; return what is done, and what the next look reads."""
        hook = self.open_hook(**account.parameters)
        may = {hook.account.default_project, account.parameters["project_id"]}
        names = [name for name in of_name if OperationName.parse(name).project in may]
        foreign = of_name.keys() - set(names)
        if foreign:  # An XCom can be written by others than its task.
            self.log.warning(
                "%s of %s belong to a project that neither the connection %r nor the record's account names, and are "
                "left alone.",
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
            self._say(account, f"{abbreviated(sorted(failed))} cannot be read now, which is tried again: {error}")
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
                self._say(account, f"{result.describe()}; that is tried again.")
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
            text = "%s %s; no task needs its operations: cancelling %s."
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
                self.log.warning("Airflow's audit log could not be written: %s", error)

    def _say(self, account: _Account, text: str) -> None:
        """Write a warning into the log, once in a row."""
        if account.said != text:
            account.said = text
            self.log.warning("%s", text)
