"""The page in Airflow's UI, in a browser: with mouse and keyboard, with the dark theme, and at a phone's width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser import CHROMIUM, DRIVER, Browser, browser
from orphan import DAG_ID, held_by_a_deferred_task

from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"),
]

PAGE = "/plugin/earth-engine"


@pytest.fixture(scope="module")
def window(airflow: StandaloneAirflow) -> Iterator[Browser]:
    with browser(airflow) as opened:
        yield opened


@pytest.fixture(scope="module")
def held(airflow: StandaloneAirflow, emulator: Emulator) -> tuple[str, str]:
    """A run of a DAG, and the operation that it holds."""
    emulator.service.behave(DAG_ID, pending_seconds=0, run_seconds=3600, cancel_seconds=2)
    return held_by_a_deferred_task(airflow)


def test_user_cancels_an_operation_and_sees_its_end(window: Browser, held: tuple[str, str], emulator: Emulator) -> None:
    run_id, name = held
    window.open(f"/dags/{DAG_ID}/runs/{run_id}/plugin/earth-engine-of-run")
    window.see(f"{DAG_ID}.wait")
    [row] = window.rows()
    assert "running" in row

    window.click(f"//input[@aria-label='Select {DAG_ID}']")
    window.click("//button[normalize-space()='Cancel 1…']")
    window.see("Cancel this operation?")
    assert "A task still waits for it, and will fail." in window.text
    window.click("//button[normalize-space()='Keep']")
    assert emulator.service.state(name) == "RUNNING"

    window.click("//button[normalize-space()='Cancel 1…']")
    window.click("//button[normalize-space()='Cancel it']")
    wait_until(lambda: "cancelling" in "".join(window.rows()), what="the row to say so", interval=0.1)
    wait_until(lambda: emulator.service.state(name) == "CANCELLED", what="Earth Engine to say so")
    window.see("0 of 0 operations")


def test_filters_and_sorting(window: Browser, emulator: Emulator, held: tuple[str, str]) -> None:  # noqa: ARG001
    for description in ("zz-first", "zz-second"):
        emulator.service.add(description, run_seconds=3600, project="earth-demo")
    window.open(PAGE)
    window.see_operations()

    window.write("//input[@type='search']", "zz-")
    wait_until(lambda: len(window.rows()) == 2, what="two rows")
    for first in ("zz-first", "zz-second"):
        window.click("//th//button[starts-with(normalize-space(), 'Description')]")
        wait_until(lambda first=first: first in window.rows()[0], what=f"{first} to be first")  # type: ignore[misc]
    assert "no task has recorded it" in window.rows()[0]
    window.click("//label[normalize-space()='Only orphans']/input")
    window.see("0 of ")


SEARCH = "//input[@type='search']"


def test_url_contains_the_filters_and_the_sort_order(window: Browser, emulator: Emulator) -> None:
    for description in ("addr-b", "addr-a", "other"):
        emulator.service.add(description, run_seconds=3600, project="earth-demo")
    window.open(f"{PAGE}?text=addr-&sort=description")
    wait_until(lambda: len(window.rows()) == 2, what="what the link is about")
    assert (window.value(SEARCH), "addr-a" in window.rows()[0]) == ("addr-", True)

    window.click("//th//button[starts-with(normalize-space(), 'Description')]")
    wait_until(lambda: "addr-b" in window.rows()[0], what="the other order")
    assert window.address == f"{PAGE}?text=addr-&sort=description&descending=true"
    window.driver.refresh()
    wait_until(lambda: len(window.rows()) == 2, what="the same after a reload")
    assert "addr-b" in window.rows()[0]

    window.click("//label[normalize-space()='Only orphans']/input")
    window.see("0 of ")
    window.driver.back()
    wait_until(lambda: len(window.rows()) == 2, what="what was there before")
    window.driver.back()
    wait_until(lambda: "addr-a" in window.rows()[0], what="the order that was there before")
    window.click("//button[normalize-space()='Reset']")
    wait_until(lambda: len(window.rows()) > 2, what="all")
    assert window.address == f"{PAGE}?sort=description"


def test_url_sets_the_filters_and_ignores_bad_values(window: Browser, held: tuple[str, str]) -> None:  # noqa: ARG001
    window.open(f"{PAGE}?dag={DAG_ID}&orphaned=true&state=all")

    window.see("0 of ")
    assert window.value("//label[normalize-space(text())='Dag']/select") == DAG_ID
    assert window.value("//label[normalize-space(text())='State']/select") == ""
    window.open(f"{PAGE}?state=nonsense&sort=__proto__&page=-3&dag=")
    window.see_operations()


def test_going_back_clears_the_selection(window: Browser, emulator: Emulator) -> None:
    emulator.service.add("dropped", run_seconds=3600, project="earth-demo")
    window.open(PAGE)
    window.see_operations()
    window.click("//label[normalize-space()='Only mine']/input")
    window.click("//label[normalize-space()='Only mine']/input")
    window.write(SEARCH, "dropped")
    window.see("1 of ")
    window.click("//input[@aria-label='Select dropped']")
    window.see("Cancel 1…")

    window.driver.back()

    wait_until(lambda: "Cancel 1…" not in window.text, what="the selection to end")
    assert window.value(SEARCH) == ""


def test_page_shows_the_error_and_no_number_of_operations(window: Browser, emulator: Emulator) -> None:
    emulator.service.fail("not_registered", times=None)
    try:
        window.open(PAGE)
        window.see("The operations of the connection earth_engine_default are not known.")
        window.see("The number of operations is not known.")
        assert "is not registered to use Earth Engine" in window.text
        assert "0 of 0" not in window.text
        assert window.complaints() == []
    finally:
        emulator.service.faults.clear()
    window.see(" operations")


def test_page_works_with_the_keyboard_alone(window: Browser, emulator: Emulator) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    name = emulator.service.add("by-keyboard", run_seconds=3600, project="earth-demo")

    def press(*keys: str) -> None:
        ActionChains(window.driver).send_keys(*keys).perform()

    def focused() -> str:
        return str(window.driver.switch_to.active_element.get_attribute("aria-label"))

    window.open(PAGE)
    window.see_operations()
    window.write("//input[@type='search']", "by-keyboard")
    window.see("1 of ")
    for _ in range(30):
        press(Keys.TAB)
        if focused() == "Select by-keyboard":
            break
    press(" ")
    window.see("Cancel 1…")
    for _ in range(30):
        ActionChains(window.driver).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
        if window.driver.switch_to.active_element.text == "Cancel 1…":
            break
    press(Keys.ENTER)
    window.see("Cancel this operation?")
    press(Keys.ESCAPE)
    wait_until(lambda: "Cancel this operation?" not in window.text, what="the question to go away")

    assert window.driver.switch_to.active_element.text == "Cancel 1…"
    assert emulator.service.state(name) == "RUNNING"


def test_selected_operations_hidden_by_a_filter_are_not_cancelled(window: Browser, emulator: Emulator) -> None:
    service = emulator.service
    others = [service.add(f"many-{number:02}", run_seconds=3600, project="earth-demo") for number in range(60)]
    meant = service.add("meant", run_seconds=3600, project="earth-demo")
    window.open(PAGE)
    window.see_operations()
    window.write("//input[@type='search']", "many-")
    window.see("60 of ")
    window.click("//input[@aria-label='Select all of this page']")
    window.see("Cancel 50…")
    window.click("//button[normalize-space()='Next']")
    window.see("Cancel 50… (50 not shown)")

    window.write("//input[@type='search']", "meant")
    window.see("1 of ")
    window.click("//input[@aria-label='Select meant']")
    window.click("//button[normalize-space()='Cancel 1…']")
    window.click("//button[normalize-space()='Cancel it']")

    wait_until(lambda: service.operations[meant].cancel_requested is not None, what="the cancel of what was meant")
    assert [name for name in others if service.operations[name].cancel_requested is not None] == []


def test_cancelling_more_than_ten_operations_requires_typing_their_number(window: Browser, emulator: Emulator) -> None:
    service = emulator.service
    names = [service.add(f"dozen-{number:02}", run_seconds=3600, project="earth-demo") for number in range(12)]
    window.open(PAGE)
    window.see_operations()
    window.write("//input[@type='search']", "dozen-")
    window.see("12 of ")
    window.click("//input[@aria-label='Select all of this page']")
    window.click("//button[normalize-space()='Cancel 12…']")
    window.see("Type 12 to cancel them")
    assert all(f"dozen-{number:02}" in window.text for number in range(12))
    confirm = "//dialog//button[normalize-space()='Cancel them']"
    assert not window.is_enabled(confirm)

    window.write("//dialog//input", "12")
    window.click(confirm)

    wait_until(lambda: all(service.operations[n].cancel_requested for n in names), what="all to be asked to cancel")


def test_empty_table_explains_why(window: Browser) -> None:
    window.open(PAGE)
    window.see_operations()
    window.write("//input[@type='search']", "there is no such thing")

    window.see("No operation matches the filters. “Active” hides those that have ended.")


def test_the_name_of_a_task_wraps_on_a_phone(window: Browser, airflow: StandaloneAirflow, emulator: Emulator) -> None:
    emulator.service.behave(DAG_ID, pending_seconds=0, run_seconds=3600, cancel_seconds=2)
    held_by_a_deferred_task(airflow)

    window.open(f"{PAGE}?dag={DAG_ID}", width=390)

    window.see(f"{DAG_ID}.wait")
    assert not (wide := window.sticks_out()), wide


def test_the_name_of_a_dag_does_not_make_the_filters_too_wide(window: Browser) -> None:
    window.open(f"{PAGE}?dag={'a_long_name_' * 8}", width=390)
    window.see("Reset")

    assert not (wide := window.sticks_out()), wide


@pytest.mark.parametrize(("theme", "width"), [("light", 1400), ("dark", 1400), ("light", 390), ("dark", 390)])
def test_axe_finds_no_serious_accessibility_problem(window: Browser, theme: str, width: int) -> None:
    window.open(PAGE, theme=theme, width=width)
    window.see_operations()
    window.click("//summary")
    assert window.complaints() == []
    assert not (wide := window.sticks_out()), wide

    window.click("(//td//input[@type='checkbox' and not(@disabled)])[1]")
    window.click("//button[starts-with(normalize-space(), 'Cancel 1')]")
    window.see("Cancel this operation?")
    assert window.complaints() == []


@pytest.mark.parametrize(
    "path",
    [
        f"/dags/{DAG_ID}/plugin/earth-engine-of-dag",
        f"/dags/{DAG_ID}/tasks/wait/plugin/earth-engine-of-task",
        f"/dags/{DAG_ID}/runs/{{run_id}}/tasks/wait/plugin/earth-engine-of-task-instance",
    ],
)
def test_page_is_a_tab_of_dags_tasks_and_task_instances(window: Browser, held: tuple[str, str], path: str) -> None:
    window.open(path.format(run_id=held[0]))

    window.see("Earth Engine operations")
    window.see(" operations")


def test_viewer_cannot_select_operations_and_sees_that_some_are_hidden(
    airflow: StandaloneAirflow, emulator: Emulator
) -> None:
    emulator.service.behave(DAG_ID, pending_seconds=0, run_seconds=3600, cancel_seconds=2)
    run_id, _ = held_by_a_deferred_task(airflow)
    emulator.service.add("of no task", run_seconds=3600, project="earth-demo")
    with browser(airflow) as window:
        window.as_role("viewer")

        window.open(f"/dags/{DAG_ID}/runs/{run_id}/plugin/earth-engine-of-run")
        window.see(f"{DAG_ID}.wait")
        box = f"//input[@aria-label='Select {DAG_ID}']"
        assert not window.is_enabled(box)
        assert "whose task instances you may not edit" in window.value(box, "title")
        assert not window.is_enabled("//th//input[@type='checkbox']")

        window.open(f"{PAGE}?text=of+no+task")
        window.see("0 of ")
        window.see(" that you may not see")
