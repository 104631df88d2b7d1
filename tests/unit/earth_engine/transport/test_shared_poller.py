"""The number of the shared poller's requests, and its delays, over minutes of virtual time."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.protocol.api_methods import PAGE_SIZE
from airflow_ee_provider.earth_engine.protocol.effects import ReadOperations, Request, Response
from airflow_ee_provider.earth_engine.transport import drivers
from airflow_ee_provider.earth_engine.transport.shared_poller import SharedPoller

if TYPE_CHECKING:
    from collections.abc import Callable

#: Requests a second that Earth Engine allows.
QUOTA = 100.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the time of the next scheduled call."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


class Project:
    """A project's operations, the newest first; each request takes 50 ms."""

    def __init__(self, loop: VirtualLoop, ends: list[float], newer: int) -> None:
        self.loop = loop
        self.waited = [OperationName("p", f"A{number}") for number in range(len(ends))]
        others = [OperationName("p", f"B{number}") for number in range(newer)]
        self.ends = {**dict.fromkeys(others, 0.0), **dict(zip(self.waited, ends, strict=True))}
        self.names = [*others, *self.waited]
        self.requests: list[float] = []

    async def send(self, request: Request) -> Response:
        self.requests.append(self.loop.time())
        await asyncio.sleep(0.05)
        if not request.path.endswith("/operations"):
            return self.answer(self.payload(OperationName.parse(request.path)))
        first = int(dict(request.query).get("pageToken", 0))
        page = [self.payload(name) for name in self.names[first : first + PAGE_SIZE]]
        following = str(first + PAGE_SIZE) if first + PAGE_SIZE < len(self.names) else ""
        return self.answer({"operations": page, "nextPageToken": following})

    def payload(self, name: OperationName) -> Any:
        done = self.loop.time() >= self.ends[name]
        return {"name": str(name), "done": done, "metadata": {"state": "SUCCEEDED" if done else "RUNNING"}}

    def answer(self, payload: Any) -> Response:
        return Response(200, json.dumps(payload).encode())


def waited(
    begin: Callable[[int], float], count: int, interval: float, seconds: float, newer: int
) -> tuple[Project, list[float]]:
    """Run ``count`` waits, each for its own operation; return the project with its requests, and each end's delay.

    :param begin: returns the time at which a wait begins, by its number.
    :param newer: the number of other operations that are listed before them.
    """
    chance, loop, late = Random(1), VirtualLoop(), []
    ends = [chance.uniform(0, seconds) if number % 2 else float("inf") for number in range(count)]
    project = Project(loop, ends, newer)
    poller = SharedPoller(project)  # type: ignore[arg-type]

    async def wait(name: OperationName, begun: float) -> None:
        await asyncio.sleep(begun)
        after = 0.0
        while True:
            found = await poller.read(ReadOperations((name,), after))
            after = interval
            if found[name].done:  # type: ignore[union-attr]
                late.append(loop.time() - max(begun, project.ends[name]))
                return

    async def wait_for_all() -> None:
        waits = [asyncio.create_task(wait(name, begin(n))) for n, name in enumerate(project.waited)]
        await asyncio.sleep(seconds)
        for one in waits:
            one.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        poller.close()

    loop.run_until_complete(wait_for_all())
    loop.close()
    return project, late


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read large responses on the loop: virtual time does not wait for threads."""
    monkeypatch.setattr(drivers, "LARGE_ANSWER", 1e9)


@pytest.mark.parametrize("begin", [lambda _: 0.0, lambda number: number / 100], ids=["at once", "in half a minute"])
def test_three_thousand_waits_cost_half_a_percent_of_the_quota(begin: Callable[[int], float]) -> None:
    seconds = 300.0

    project, late = waited(begin, 3000, interval=30.0, seconds=seconds, newer=1000)

    steady = [time for time in project.requests if time > 60]
    assert len(steady) / (seconds - 60) <= 0.005 * QUOTA
    assert len(late) > 1000
    assert max(late) <= 30.0 + 1.0  # And the time that reading takes.


def test_thirty_waits_in_a_project_with_a_long_list_cost_a_page_more_than_gets() -> None:
    project, late = waited(lambda _: 0.0, 30, interval=30.0, seconds=300.0, newer=50_000)

    assert len(project.requests) <= 11 * (30 + 1)
    assert len(late) == 30 / 2
