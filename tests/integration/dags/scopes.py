"""DAGs in which an operator without names must not cancel the operations of unrelated tasks."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, task, task_group

from airflow_ee_provider.earth_engine.protocol import waiting
from airflow_ee_provider.operators.earth_engine import EarthEngineCancelOperationsOperator
from airflow_ee_provider.records import record_operations

waiting.SHORTEST_POLL_INTERVAL = 0.0  # For tests, also in separate processes.


@task
def names(**context: Any) -> list[str]:
    found: list[str] = context["dag_run"].conf["operation_names"]
    return found


@task
def hold(name: Any, **context: Any) -> None:
    record_operations(context, name)


@task
def nothing() -> list[None]:
    return [None]


@task
def only_the_first(name: Any, **context: Any) -> None:
    if name != context["dag_run"].conf["operation_names"][0]:
        raise AirflowSkipException("This one goes on.")


with DAG("scope_mapped_none", schedule=None) as dag:
    holding = hold.expand(name=names())
    cancelling = EarthEngineCancelOperationsOperator.partial(task_id="task").expand(operation_names=nothing())
    holding >> cancelling
globals()[dag.dag_id] = dag

with DAG("scope_group", schedule=None) as dag:

    @task_group(group_id="group")
    def each(name: Any) -> None:
        hold(name) >> only_the_first(name) >> EarthEngineCancelOperationsOperator(task_id="clean", poll_interval=0.2)

    each.expand(name=names())
    task(lambda: None, task_id="task")()
globals()[dag.dag_id] = dag

with DAG("scope_upstream", schedule=None) as dag:

    @task
    def first(**context: Any) -> None:
        record_operations(context, context["dag_run"].conf["operation_names"][0])

    @task
    def neighbour(**context: Any) -> None:
        record_operations(context, context["dag_run"].conf["operation_names"][1])

    clean = EarthEngineCancelOperationsOperator(task_id="task", poll_interval=0.2)
    first() >> clean
    neighbour()
globals()[dag.dag_id] = dag

with DAG("scope_run", schedule=None) as dag:
    clean = EarthEngineCancelOperationsOperator(task_id="task", scope="run", poll_interval=0.2, trigger_rule="all_done")
    [first(), hold.expand(name=names())] >> task(lambda: None, task_id="between")() >> clean
    neighbour()
globals()[dag.dag_id] = dag

with DAG("scope_setup", schedule=None) as dag:

    @task
    def before(**context: Any) -> None:
        record_operations(context, context["dag_run"].conf["operation_names"][1])

    @task
    def set_up(**context: Any) -> None:
        record_operations(context, context["dag_run"].conf["operation_names"][0])

    prepared = set_up().as_setup()
    clean = EarthEngineCancelOperationsOperator(task_id="task", poll_interval=0.2)
    before() >> prepared >> task(lambda: None, task_id="work")() >> clean.as_teardown(setups=prepared)
globals()[dag.dag_id] = dag

for place, deferrable in (("worker", False), ("triggerer", True)):
    with DAG(f"scope_two_connections_in_{place}", schedule=None) as dag:

        @task
        def mine(**context: Any) -> None:
            record_operations(context, context["dag_run"].conf["operation_names"][0], earth_engine_conn_id="mine")

        @task
        def theirs(**context: Any) -> None:
            record_operations(context, context["dag_run"].conf["operation_names"][1], earth_engine_conn_id="theirs")

        clean = EarthEngineCancelOperationsOperator(
            task_id="task", earth_engine_conn_id="absent", poll_interval=0.2, deferrable=deferrable
        )
        [mine(), theirs()] >> clean
    globals()[dag.dag_id] = dag
