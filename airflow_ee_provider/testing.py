"""A pytest fixture for one's own DAGs: an Earth Engine of one's own. pytest finds it by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ee_provider.emulator import Emulator


@pytest.fixture
def earth_engine_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Run an emulator, and let the connection ``earth_engine_default`` lead to it.

    Its ``service`` sets the scene and tells what happened: ``behave``, ``fail``, ``add``, ``clock.advance``;
    ``state``, ``requests``, ``operations``.
    """
    from airflow_ee_provider.emulator import Emulator

    with Emulator() as emulator:
        monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", emulator.airflow_connection())
        yield emulator
