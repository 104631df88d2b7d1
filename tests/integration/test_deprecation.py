"""A parameter's old name works on, and says what it is called now."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.exceptions import AirflowProviderDeprecationWarning
from airflow.providers.common.compat.sdk import DAG

from airflow_ee_provider.operators.earth_engine import EarthEngineCancelStaleOperationsOperator

SAYS = "max_eecu_seconds is called min_eecu_seconds now; the old name goes in 0.4.0"


def given_directly() -> Any:
    return EarthEngineCancelStaleOperationsOperator(task_id="x", max_eecu_seconds=5)


def given_by_default() -> Any:
    with DAG("d", schedule=None, default_args={"max_eecu_seconds": 5}):
        return EarthEngineCancelStaleOperationsOperator(task_id="x")


@pytest.mark.parametrize("give", [given_directly, given_by_default])
def test_the_old_name_works_and_warns(give: Any) -> None:
    with pytest.warns(AirflowProviderDeprecationWarning, match=SAYS) as warned:
        operator = give()

    assert operator.min_eecu_seconds == 5
    assert len(warned) == 1
    assert warned[0].filename == __file__  # It leads to the author's line.


def test_a_mapped_task_may_use_it() -> None:
    with DAG("d", schedule=None):
        mapped = EarthEngineCancelStaleOperationsOperator.partial(task_id="x", max_eecu_seconds=5)

        assert mapped.expand(description=["a", "b"]).partial_kwargs["max_eecu_seconds"] == 5


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(TypeError, match="both min_eecu_seconds and max_eecu_seconds"):
        EarthEngineCancelStaleOperationsOperator(task_id="x", max_eecu_seconds=5, min_eecu_seconds=6)
