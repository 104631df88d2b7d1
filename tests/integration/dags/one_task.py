"""One DAG for each operator with some of its parameters; the run's conf has the operations' names."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_ee_provider.earth_engine.protocol import waiting
from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.operators.earth_engine import (
    EarthEngineCancelOperationsOperator,
    EarthEngineCancelStaleOperationsOperator,
    EarthEngineExportOperator,
    EarthEngineImportOperator,
)
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

waiting.SHORTEST_POLL_INTERVAL = 0.0  # For tests, also in separate processes.

NAMES = "{{ dag_run.conf['operation_names'] }}"

OPERATORS: dict[str, dict[str, Any]] = {
    "cancel": {},
    "cancel_and_go": {"wait_for_completion": False},
    "cancel_impatiently": {"cancel_timeout": 2},
    "cancel_not_found_ok": {"not_found_ok": True},
}

SENSORS: dict[str, dict[str, Any]] = {
    "wait": {},
    "wait_softly": {"soft_fail": True},
    "wait_frugally": {"max_eecu_seconds": 1.0},
    "wait_and_cancel_the_others": {"cancel_on_failure": "{{ 1 == 1 }}"},
    "wait_for_the_others": {"stop_at_failure": False},
    "wait_impatiently": {"timeout": 2},
    "wait_impatiently_and_cancel": {"timeout": 2, "cancel_on_timeout": True},
    "wait_impatiently_softly_and_cancel": {"timeout": 2, "cancel_on_timeout": True, "soft_fail": True},
    "wait_with_callback": {"on_failure_callback": EarthEngineCancelOperationsNotifier(poll_interval=0.2)},
}

#: ``ee.Image(1)``, to a bucket.
BODY = {
    "description": "{{ dag.dag_id }}",
    "expression": {"result": "0", "values": {"0": {"constantValue": 1}}},
    "fileExportOptions": {"fileFormat": "GEO_TIFF", "cloudStorageDestination": {"bucket": "b", "filenamePrefix": "x"}},
}

EXPORTS: dict[str, dict[str, Any]] = {
    "export": {},
    "export_and_go": {"wait_for_completion": False},
    "export_impatiently": {"execution_timeout": timedelta(seconds=3)},
    "export_frugally": {"max_eecu_seconds": 1.0},
    "export_nonsense": {"body": {**BODY, "assetExportOptions": {}}},
}

#: Cases that run in a worker and in the triggerer; all others run in a worker only.
IN_BOTH = (
    "cancel",
    "wait",
    "wait_softly",
    "wait_frugally",
    "wait_and_cancel_the_others",
    "wait_for_the_others",
    "tidy",
    "export",
    "export_frugally",
    "import",
)


def places(case: str) -> tuple[tuple[str, bool], ...]:
    return (("worker", False), ("triggerer", True)) if case in IN_BOTH else (("worker", False),)


MANIFEST = {
    "name": "projects/demo/assets/{{ dag.dag_id }}",
    "tilesets": [{"sources": [{"uris": ["gs://bucket/scene.tif"]}]}],
}

IMPORTS: dict[str, dict[str, Any]] = {
    "import": {},
    "import_again": {"overwrite": "{{ true }}"},
    "import_nothing": {"manifest": '{"name": "projects/demo/assets/nothing"}'},
}

for starting, cases, what in (
    (EarthEngineExportOperator, EXPORTS, {"body": BODY}),
    (EarthEngineImportOperator, IMPORTS, {"manifest": MANIFEST}),
):
    for case, parameters in cases.items():
        for place, deferrable in places(case):
            with DAG(f"{case}_in_{place}", schedule=None) as dag:
                how = {"poll_interval": 0.2, "deferrable": deferrable}
                starting(task_id="task", kind="image", **{**what, **how, **parameters})
            globals()[dag.dag_id] = dag

JANITORS: dict[str, dict[str, Any]] = {
    "tidy": {"description": "stale-*", "keep": NAMES, "poll_interval": 0.2},
    "tidy_one": {"description": "stale-*", "limit": 1, "poll_interval": 0.2},
    "tidy_dry": {"older_than": timedelta(0), "select_all": True, "dry_run": True},
    "tidy_everything": {"states": "PENDING"},
}

for case, parameters in JANITORS.items():
    for place, deferrable in places(case):
        with DAG(f"{case}_in_{place}", schedule=None) as dag:
            EarthEngineCancelStaleOperationsOperator(task_id="task", deferrable=deferrable, **parameters)
        globals()[dag.dag_id] = dag

for kind, cases in ((EarthEngineCancelOperationsOperator, OPERATORS), (EarthEngineOperationsSensor, SENSORS)):
    for case, parameters in cases.items():
        for place, deferrable in places(case):
            with DAG(f"{case}_in_{place}", schedule=None) as dag:
                kind(task_id="task", operation_names=NAMES, poll_interval=0.2, deferrable=deferrable, **parameters)
            globals()[dag.dag_id] = dag
