"""Airflow as in production: of the cells that the matrix measures with `--production`, those that break most easily."""

from __future__ import annotations

import pytest
from booting import PRODUCTION, booted, keep_evidence, new_emulator
from matrix_cells import Cell
from running import run_cells
from servers import are_installed

from dev.airflow_api import PATIENCE

pytestmark = [
    pytest.mark.system,
    pytest.mark.nightly,
    pytest.mark.skipif(not are_installed(), reason="Debian's packages postgresql and redis-server are not installed"),
]


def test_losing_workers_or_a_triggerer_cancels_nothing() -> None:
    cells = [
        Cell("sensor_running", "celery_cold"),
        Cell("export_running", "celery_cold"),
        Cell("sensor_deferred", "one_triggerer_sigkill"),
        Cell("export_deferred", "one_triggerer_sigkill"),
        Cell("sensor_deferred", "one_triggerer_stands_still"),
        Cell("export_deferred", "one_triggerer_stands_still"),
    ]

    with new_emulator() as emulator, booted(emulator, airflow_class=PRODUCTION) as airflow:
        run_cells(cells, airflow, emulator, patience=PATIENCE)
        if not all(cell.kept for cell in cells):
            keep_evidence(airflow, emulator.service)

    assert {cell.dag_id: cell.observed for cell in cells} == {cell.dag_id: "resumed" for cell in cells}
