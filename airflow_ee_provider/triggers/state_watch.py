"""Whether the tasks still wait whose triggers do, asked for all triggers of an event loop together.

Airflow cancels a trigger when a user acts on its task and the DAG is scheduled. It does not where a deferred task is
cleared while its DAG is paused, or its file cannot be parsed, or its run waits behind ``max_active_runs``: then the
task instance has no state, and the trigger runs for as long as its operations do.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.task_states import instance_name, states_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_ee_provider.triggers.earth_engine import EarthEngineOperationsTrigger

log = logging.getLogger(__name__)

#: Seconds between two questions: one for each DAG whose tasks wait, however many they are.
INTERVAL = 60.0


class StateWatch:
    """Asks for the states of the tasks whose triggers wait in one event loop."""

    def __init__(self) -> None:
        self.triggers: set[EarthEngineOperationsTrigger] = set()
        self.asking: asyncio.Task[None] | None = None

    async def ask_again_and_again(self) -> None:
        """Ask, for as long as a trigger waits."""
        while self.triggers:
            await asyncio.sleep(INTERVAL)
            found = await self._not_deferred()
            # Each asks again, for its own task: this answer may be old by now.
            waiting = [trigger for trigger in found if trigger in self.triggers]
            await asyncio.gather(*(trigger.cancel_if_unneeded(is_user_action=False) for trigger in waiting))

    async def _not_deferred(self) -> list[EarthEngineOperationsTrigger]:
        from asgiref.sync import sync_to_async

        from airflow_ee_provider.earth_engine.transport.drivers import in_background

        of_dag: defaultdict[str, dict[EarthEngineOperationsTrigger, Any]] = defaultdict(dict)
        for trigger in self.triggers:
            ti: Any = trigger.task_instance
            of_dag[ti.dag_id][trigger] = ti
        found: list[EarthEngineOperationsTrigger] = []
        for dag_id, triggers in of_dag.items():
            tis = triggers.values()
            question = sync_to_async(states_of)(dag_id, {ti.run_id for ti in tis}, {ti.task_id for ti in tis})
            try:
                # In the background: Airflow 3.1's triggerer crashes if a call to it is cancelled before its answer.
                states = await asyncio.shield(in_background(question))
            except Exception as error:  # noqa: BLE001 (Airflow may raise any exception; it is asked again)
                log.info("Could not read the states of the deferred tasks of %s; trying again later: %s", dag_id, error)
                continue
            found += [trigger for trigger, ti in triggers.items() if _state(states, ti) != "deferred"]
        return found


def _state(states: Mapping[tuple[str, str], str], ti: Any) -> str:
    return states.get((ti.run_id, instance_name(ti.task_id, ti.map_index)), "deleted")


_WATCHES: dict[asyncio.AbstractEventLoop, StateWatch] = {}


def watch(trigger: EarthEngineOperationsTrigger) -> None:
    """Ask every now and then whether a trigger's task still waits, and let it cancel if not; until `unwatch`."""
    if trigger.task_instance is None or not trigger.cancel_on_kill:
        return
    watching = _WATCHES.setdefault(asyncio.get_running_loop(), StateWatch())
    watching.triggers.add(trigger)
    if watching.asking is None or watching.asking.done():
        watching.asking = asyncio.ensure_future(watching.ask_again_and_again())


def unwatch(trigger: EarthEngineOperationsTrigger) -> None:
    """Ask no more for a trigger."""
    loop = asyncio.get_running_loop()
    watching = _WATCHES.get(loop)
    if watching is None:
        return
    watching.triggers.discard(trigger)
    if not watching.triggers:
        del _WATCHES[loop]
        if watching.asking is not None:
            watching.asking.cancel()
