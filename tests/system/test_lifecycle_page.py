"""Updates of the lifecycle matrix's page after only a part of the cells was measured again."""

from __future__ import annotations

from pathlib import Path

import pytest
from lifecycle_page import page

RESULTS = Path(__file__).parents[2] / "docs" / "results"
VERSION, CELL = "3.3.2", "sensor_deferred__task_cleared"


@pytest.fixture
def before() -> str:
    return (RESULTS / "lifecycle.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("version", [VERSION, f"{VERSION}, as in production"])
def test_cells_not_measured_again_stay_unchanged(version: str, before: str) -> None:
    text, broken = page([{"version": version, "cells": {}}], [], before)

    assert text == before
    assert not broken


def test_only_cells_measured_again_change(before: str) -> None:
    cells = {CELL: {"observed": "77.7 s", "kept": True}}

    text, broken = page([{"version": VERSION, "cells": cells}], [], before)

    [(old, new)] = [lines for lines in zip(before.splitlines(), text.splitlines(), strict=True) if len(set(lines)) > 1]
    assert old.startswith("| the task is cleared | ")
    assert new.count("77.7 s") == 1
    assert not broken


def test_broken_cell_is_reported_until_it_is_measured_again(before: str) -> None:
    text, broken = page([{"version": VERSION, "cells": {CELL: {"observed": "RUNNING", "kept": False}}}], [], before)
    _, again = page([{"version": VERSION, "cells": {}}], [], text)

    assert "**RUNNING**" in text
    assert broken == again == ["3.3.2: sensor_deferred task_cleared: RUNNING"]


def test_the_page_says_when_and_on_which_code_the_last_cells_were_measured() -> None:
    cells = {CELL: {"observed": "1.5 s", "kept": True}}
    before, _ = page([{"version": VERSION, "measured": "2 cells, then", "cells": cells}], [], "")

    text, _ = page([{"version": VERSION, "measured": "1 cells, now", "cells": {}}], [], before)

    assert text.count("Measured last: ") == 1
    assert "1.5 s" in text
    assert "\n\nMeasured last: 1 cells, now.\n" in text
