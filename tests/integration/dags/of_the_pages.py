"""The DAGs of the README and the documents, which are written for Airflow 3."""

from __future__ import annotations

import importlib.util

from pages import DAGS

if importlib.util.find_spec("airflow.sdk"):
    for block in DAGS.values():
        exec(block, globals())  # noqa: S102
