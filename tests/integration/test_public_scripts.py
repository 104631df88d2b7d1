"""Public scripts, unchanged, under the decorator: what they start, what they return, and a retry of each.

The scripts and their sources are in ``tests/support/public_scripts.py``.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import public_scripts as scripts
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from assets import ASSETS, Assets
from instances import Store
from requests_sent import sent
from tries import Tries

from airflow_ee_provider.base import task_states

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service

SUFFIXES = ("inland", "coast", "islands")


class Script(NamedTuple):
    """A script and its expected results.

    :param sent: The requests of one call, in order.
    :param value: The task's value, or a function that checks the value with the ids of the started operations.
    :param sent_again: The requests of the call in a next try, although all results exist.
    """

    function: Callable[[], Any]
    sent: list[str]
    value: Any = None
    sent_again: tuple[str, ...] = ()


def described(description: str, state: str = "SUCCEEDED") -> Any:
    """Return a function that checks an `OperationDict`."""

    def is_right(value: Any) -> bool:
        return (value["description"], value["state"]) == (description, state)

    return is_right


SCRIPTS = {
    script.function.__name__: script
    for script in (
        Script(scripts.notebook, ["start wells"]),
        Script(scripts.monitor, [f"start part-{n}" for n in range(3)], lambda value, ids: value == sorted(ids)),
        Script(scripts.pairs, ["start north", "start south"]),
        Script(
            scripts.made_again,
            ["start dem"],
            lambda value, _: described("dem")(value["task"]) and value["is listed"] is True,
        ),
        Script(scripts.few_at_once, [f"start field-{n}" for n in range(4)]),
        Script(scripts.watched_in_a_thread, ["start plots"], lambda value, ids: [value] == ids[-1:]),
        Script(
            scripts.moved_into_place,
            ["start mosaic", "delete mosaic", "move mosaic_new"],
            f"{ASSETS}/mosaic",
            ("start mosaic", "delete mosaic", "move mosaic_new"),
        ),
        Script(scripts.ingested_anew, ["import sites"], None, ("delete sites", "import sites")),
        Script(
            scripts.ingested_on_arrival,
            ["import May-6-2022"],
            lambda value, ids: value["name"].endswith(ids[0]) and value["state"] == "SUCCEEDED",
        ),
        Script(scripts.all_cancelled_first, ["start ccdc"]),
        Script(scripts.if_it_is_not_there, ["start inside", "start outside"]),
        Script(
            scripts.every_second_one_awaited,
            [f"start scene-{n}" for n in range(4)],
            lambda value, _: all(described(f"scene-{n}")(one) for n, one in enumerate(value)),
        ),
        Script(
            scripts.quarters, ["start pressure_2005-01-01_to_2005-04-01", "start pressure_2005-04-01_to_2005-07-01"]
        ),
        Script(scripts.course, [f"start Image Export {n} {suffix}" for n, suffix in enumerate(SUFFIXES)], 3),
    )
}


@pytest.fixture
def service(earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Service:
    # The task is not in Airflow 2's database; Airflow 3 is not asked.
    monkeypatch.setattr(task_states, "_state_from_database", lambda ti: ("running", ti.try_number, True))
    monkeypatch.setattr(scripts, "PAUSE", 0.02)
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, run_seconds=0.3, cancel_seconds=0.1)
    service.answer("projects/*/value:compute", {"result": list(SUFFIXES)})
    return service


@pytest.fixture
def assets(service: Service) -> Assets:
    return Assets(service)


class StopsError(ValueError):
    """The error that a function raises."""


def ids(service: Service) -> list[str]:
    return [name.rpartition("/")[2] for name in service.operations]


def check_value(script: Script, value: Any, service: Service) -> None:
    if callable(script.value):
        assert script.value(value, ids(service)), value
    else:
        assert value == script.value


@pytest.mark.usefixtures("assets")
@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_sends_its_requests_and_returns_its_value(service: Service, name: str, deferrable: bool) -> None:
    script = SCRIPTS[name]
    tries = Tries(script.function, deferrable=deferrable)

    check_value(script, tries.run(), service)

    assert sent(service) == script.sent
    assert {service.state(one) for one in service.operations} == {"SUCCEEDED"}
    assert tries.xcom("operation_names") == list(service.operations)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_retry_after_a_failed_last_step_repeats_only_the_expected_requests(
    service: Service, assets: Assets, name: str
) -> None:
    script = SCRIPTS[name]

    def function() -> Any:
        value = script.function()
        if tries.try_number == 1:
            raise StopsError
        return value

    tries = Tries(function, store=Store())
    with pytest.raises(StopsError):
        tries.run()
    service.clock.advance(5)  # All operations have ended, and their results exist.

    check_value(script, tries.run(), service)

    # A start that first finds an operation of the last try, and then starts a new one, is sent twice.
    done = [one for one, _ in groupby(sent(service))]
    assert done == [*script.sent, *script.sent_again]
    assert len(service.operations) == sum(one.startswith(("start", "import")) for one in done)
    assert {service.state(one) for one in service.operations} == {"SUCCEEDED"}
    kept = [one for one in ("sites", "May-6-2022", "inside", "outside", "mosaic") if f"{ASSETS}/{one}" in assets]
    written = {
        "ingested_anew": ["sites"],
        "ingested_on_arrival": ["May-6-2022"],
        "if_it_is_not_there": ["inside", "outside"],
        "moved_into_place": ["mosaic"],
    }
    assert kept == written.get(name, [])


# Single scripts


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("starts", [True, False])
def test_an_export_of_the_last_try_that_this_try_cancels_is_started_again(
    service: Service, starts: bool, deferrable: bool
) -> None:
    """The function cancels the running export, and starts a new one or returns it for the task to start."""

    def function() -> Any:
        scripts.all_cancelled_first(starts=starts or tries.try_number == 1)
        if tries.try_number == 1:
            raise StopsError
        return None if starts else [scripts.image("more"), scripts.image("ccdc")]

    service.behave("ccdc", pending_seconds=0, run_seconds=3600, cancel_seconds=0)
    tries = Tries(function, store=Store(), max_active_operations=1, deferrable=deferrable)
    with pytest.raises(StopsError):
        tries.run()
    service.behave("ccdc", pending_seconds=0, run_seconds=0.3)
    value = tries.run()

    assert [one for one in sent(service) if one.startswith("cancel")] == ["cancel ccdc"]
    found = [(one.description, service.state(one.name)) for one in service.operations.values()]
    more = [] if starts else [("more", "SUCCEEDED")]
    assert found == [("ccdc", "CANCELLED"), *more, ("ccdc", "SUCCEEDED")]
    assert sorted(tries.xcom("operation_names")) == sorted(list(service.operations)[1:])
    assert value is None if starts else [one["state"] for one in value] == ["SUCCEEDED"] * 2


@pytest.mark.parametrize("function", [scripts.notebook, scripts.monitor, scripts.quarters, scripts.few_at_once])
def test_a_failure_that_the_script_only_prints_fails_the_task(service: Service, function: Callable[[], Any]) -> None:
    service.behave(pending_seconds=0, run_seconds=0.1, outcome="FAILED")

    with pytest.raises(AirflowFailException, match="did not succeed"):
        Tries(function).run()

    assert not [one for one in sent(service) if one.startswith("cancel")]


def test_the_next_try_starts_a_failed_export_again_for_which_the_script_raised(service: Service) -> None:
    service.behave("south", pending_seconds=0, run_seconds=0.1, outcome="FAILED")
    tries = Tries(scripts.pairs, store=Store())
    with pytest.raises(ValueError, match="south"):
        tries.run()
    service.behave("south", pending_seconds=0, run_seconds=0.3)
    tries.run()

    by_description = [(one.description, service.state(one.name)) for one in service.operations.values()]
    assert by_description == [("north", "SUCCEEDED"), ("south", "FAILED"), ("south", "SUCCEEDED")]


def test_a_script_that_limits_itself_never_exceeds_its_limit(service: Service) -> None:
    Tries(scripts.few_at_once, deferrable=True).run()

    mine = list(service.operations.values())
    assert max(sum(o.created <= one.created < o.ended() for o in mine) for one in mine) == 2
