"""Long loops leave other threads time to run."""

from __future__ import annotations

import threading
import time

from airflow_ee_provider.tracking.unhurried import REST, WORK, serve, unhurried


def compute(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_long_loop_of_a_server_rests_repeatedly() -> None:
    serve()
    rested: list[float] = []

    def loop() -> None:
        begun, used = time.perf_counter(), time.thread_time()
        assert list(unhurried(range(3))) == [0, 1, 2]
        for _ in unhurried(range(10)):
            compute(2 * WORK)
        rested.append((time.perf_counter() - begun) - (time.thread_time() - used))

    thread = threading.Thread(target=loop)
    thread.start()
    thread.join()
    assert rested[0] >= 10 * REST
