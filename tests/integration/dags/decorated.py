"""DAGs with ``@task.earth_engine``: one task each."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowException, task


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


CASES: dict[str, dict[str, Any]] = {
    "one": {"function": one, "arguments": {"suffix": "{{ dag.dag_id }}"}, "priority": 50},
    "several": {"function": several},
    "several_patient": {"function": several, "cancel_on_failure": False},
    "started": {"function": started},
    "nothing": {"function": nothing},
    "nonsense": {"function": nonsense},
    "breaks": {"function": breaks},
    "asks": {"function": asks},
    "and_go": {"function": several, "wait_for_completion": False},
}

for case, parameters in CASES.items():
    for place, deferrable in (("worker", False), ("triggerer", True)):
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
