"""DAGs with ``@task.earth_engine``: one task each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowException, task

from airflow_ee_provider.earth_engine.protocol import waiting

waiting.SHORTEST_POLL_INTERVAL = 0.0  # For tests, also in separate processes.


def image_export(description: str, **kwargs: Any) -> Any:
    import ee

    image = ee.Image(1).clip(ee.Geometry.Rectangle([0, 0, 1, 1]))
    return ee.batch.Export.image.toCloudStorage(image, description, bucket="b", fileNamePrefix=description, **kwargs)


def one(suffix: str, params: Any, ds_nodash: str | None = None) -> Any:  # noqa: ARG001 (context variables)
    return image_export(f"one-{suffix}-{params['answer']}")


def several() -> Any:
    import ee

    features = ee.FeatureCollection([ee.Feature(ee.Geometry.Point([0, 0]))])
    return [image_export("first"), ee.batch.Export.table.toDrive(features, "second"), image_export("third")]


def dozen() -> Any:
    return [image_export(f"tile-{number}") for number in range(12)]


def loop() -> None:
    for export in dozen():
        export.start()


def started() -> Any:
    export = image_export("started")
    export.start()
    return export


def nothing() -> list[Any]:
    return []


def nonsense() -> Any:
    return [image_export("fine"), image_export("too-much", priority=10000)]


def breaks() -> Any:
    raise AirflowException("The inputs are no good.")


def asks() -> Any:
    import ee

    ee.data.listOperations()


def started_and_forgotten() -> None:
    for n in range(2):
        image_export(f"forgotten-{n}").start()


def started_and_raised() -> None:
    started_and_forgotten()
    raise ValueError("The third one is no good.")


def swallowed() -> None:
    """Catch and print the error of each start, as geemap's helpers do."""
    import ee

    for n in range(2):
        try:
            image_export(f"swallowed-{n}").start()
        except Exception as error:  # noqa: BLE001
            print(error, ee.__version__)  # noqa: T201


def annotated() -> dict[str, Any]:
    return {"north": image_export("north"), "south": [image_export("south")]}


def listed() -> Any:
    import ee

    image_export("mine").start()
    return ee.batch.Task.list()


CASES: dict[str, dict[str, Any]] = {
    "forgotten": {"function": started_and_forgotten},
    "raised": {"function": started_and_raised},
    "swallowed": {"function": swallowed},
    "annotated": {"function": annotated},
    "listed": {"function": listed},
    "limited": {"function": several, "max_eecu_seconds": "{{ 10000 }}", "poll_interval": timedelta(seconds=0.2)},
    "mistyped": {"function": several, "max_eecu_seconds": "{{ 'many' }}"},
    "one": {"function": one, "arguments": {"suffix": "{{ dag.dag_id }}"}, "priority": 50},
    "several": {"function": several},
    "several_patient": {"function": several, "cancel_on_failure": False},
    "several_tolerant": {"function": several, "max_failures": 1},
    "several_in_proportion": {"function": several, "max_failures": "{{ 0.2 }}"},
    "dozen": {"function": dozen},
    "dozen_frugal": {"function": dozen, "max_active_operations": "{{ 4 }}"},
    "dozen_impatient": {"function": dozen, "queue_timeout": 0.5},
    "dozen_again": {"function": dozen, "max_active_operations": 4, "max_restarts": 1},
    "loop": {"function": loop},
    "several_again": {"function": several, "max_restarts": "{{ 2 }}"},
    "started": {"function": started},
    "nothing": {"function": nothing},
    "nonsense": {"function": nonsense},
    "breaks": {"function": breaks},
    "asks": {"function": asks},
    "and_go": {"function": several, "wait_for_completion": False},
}

#: Cases that run in a worker and in the triggerer; all others run in a worker only.
IN_BOTH = (
    "one",
    "several",
    "several_patient",
    "several_tolerant",
    "several_again",
    "dozen_again",
    "dozen",
    "dozen_frugal",
    "started",
    "limited",
    "forgotten",
)

for case, parameters in CASES.items():
    for place, deferrable in (("worker", False), ("triggerer", True)) if case in IN_BOTH else (("worker", False),):
        how = {"poll_interval": 0.2, "deferrable": deferrable, **parameters}
        function, arguments = how.pop("function"), how.pop("arguments", {})
        with DAG(f"decorated_{case}_in_{place}", schedule=None, params={"answer": 42}) as dag:
            task.earth_engine(task_id="task", **how)(function)(**arguments)
        globals()[dag.dag_id] = dag

with DAG("decorated_mapped", schedule=None) as dag:

    @task
    def regions() -> list[str]:
        return ["north", "south"]

    @task.earth_engine(task_id="task", poll_interval=0.2)
    def export(region: str) -> Any:
        return image_export(region)

    export.expand(region=regions())
