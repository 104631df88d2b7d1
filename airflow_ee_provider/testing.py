"""A pytest fixture to test your own DAGs: an emulated Earth Engine. pytest finds it automatically."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ee_provider.emulator import Emulator


class UnansweredRequestsWarning(pytest.PytestWarning):
    """The emulator has refused requests because the test has defined no answer to them."""


@pytest.fixture
def earth_engine_emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Run an emulator, and set the connection ``earth_engine_default`` to it.

    Its ``service`` prepares the test (``behave``, ``fail``, ``add``, ``answer``, ``clock.advance``) and reports what
    happened (``state``, ``requests``, ``operations``). At the test's end, a warning lists the requests that it did not
    answer.
    """
    from airflow_ee_provider.emulator import Emulator

    with Emulator() as emulator:
        monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", emulator.airflow_connection())
        yield emulator
    if unanswered := Counter(emulator.service.unanswered):
        request.node.warn(UnansweredRequestsWarning(_list_of(unanswered)))


def _list_of(unanswered: Counter[str]) -> str:
    count = unanswered.total()
    listed = ", ".join(one if times == 1 else f"{one} ({times} times)" for one, times in unanswered.items())
    requests = "1 request was" if count == 1 else f"{count} requests were"
    return f"{requests} not answered: {listed}. Define answers with earth_engine_emulator.service.answer(path, answer)."
