"""An operator that does nothing: the same two halves of a task, and a trigger that sleeps between them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.providers.common.compat.sdk import Context


class SleepTrigger(BaseTrigger):
    """Sleeps.

    :param seconds: for how long.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments of the trigger."""
        return "waiting.SleepTrigger", {"seconds": self.seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep, then yield the event that resumes the task."""
        await asyncio.sleep(self.seconds)
        yield TriggerEvent("done")


class SleepOperator(BaseOperator):
    """Starts nothing, and waits in the triggerer.

    :param seconds: for how long.
    :param body: what would be started.
    """

    template_fields = ("body",)

    def __init__(self, *, seconds: float, body: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seconds, self.body = seconds, body

    def execute(self, context: Context) -> None:
        """Wait in the triggerer."""
        del context
        self.defer(trigger=SleepTrigger(self.seconds), method_name="resume")

    def resume(self, context: Context, event: Any) -> str:
        """Return the trigger's event."""
        del context
        return str(event)
