"""The endpoints of the page in Airflow's UI: what each role may see and do, and that slow requests block no others."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from airflow import __version__ as airflow_version

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.earth_engine.protocol import retries
from airflow_ee_provider.tracking.overview import Overview

if not AIRFLOW_3:
    pytest.skip("Airflow 2 has no such pages", allow_module_level=True)

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models import DagModel
from airflow.utils.session import create_session
from clocks import let_time_fly
from fastapi import HTTPException
from loopback import LoopbackServer, send
from page_client import CANCEL, OPERATIONS, ORPHANS, api_server, cache_nothing, role

from airflow_ee_provider.plugins import app as doors
from airflow_ee_provider.plugins import page
from airflow_ee_provider.plugins.app import Pool
from airflow_ee_provider.plugins.cached_overview import CachedOverview
from airflow_ee_provider.plugins.choosing import Choice, Place
from airflow_ee_provider.plugins.permissions import Permissions, forget_permissions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler

    from fastapi.testclient import TestClient

    from airflow_ee_provider.emulator import Emulator


@pytest.fixture(scope="module")
def api(airflow_database: None) -> Iterator[TestClient]:  # noqa: ARG001 (its tables must be there)
    with api_server() as client:
        yield client


@pytest.fixture(autouse=True)
def _nothing_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    cache_nothing(monkeypatch)


@pytest.fixture
def untracked(earth_engine_emulator: Emulator, orphan: str) -> str:  # noqa: ARG001 (added after the orphan)
    return earth_engine_emulator.service.add("a colleague's")


def shown(api: TestClient, name: str = "admin", **wanted: Any) -> dict[str, dict[str, Any]]:
    answer = api.get(OPERATIONS, headers=role(name), params=wanted)
    assert answer.status_code == 200, answer.text
    return {operation["name"]: operation for operation in answer.json()["operations"]}


def test_the_page_shows_the_tasks_of_each_operation(api: TestClient, orphan: str, untracked: str) -> None:
    operations = shown(api)

    assert operations[orphan]["orphaned"]
    assert operations[orphan]["holders"][0]["dag_id"] == "held_owner"
    assert operations[untracked]["holders"] == []
    assert api.get(OPERATIONS, headers=role("admin")).json()["connections"] == ["earth_engine_default"]
    assert shown(api, dag_id="held_owner").keys() == {orphan}
    assert shown(api, dag_id="another").keys() == set()
    assert shown(api, dag_id="held_owner", task_id="another").keys() == set()


def test_parameters_filter_sort_and_page_the_operations(api: TestClient, orphan: str, untracked: str) -> None:
    def asked(**params: Any) -> dict[str, Any]:
        answer = api.get(OPERATIONS, headers=role("admin"), params=params)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    everything, orphans = asked(), asked(orphaned="true")
    assert {one["name"] for one in everything["operations"]} == {orphan, untracked}
    assert [one["name"] for one in orphans["operations"]] == [orphan]
    assert (orphans["total"], orphans["chosen"], orphans["orphaned"]) == (2, 1, 1)
    assert [total["dag"] for total in orphans["totals"]] == ["held_owner"]
    assert asked(dag="held_owner")["operations"] == orphans["operations"]
    assert [one["name"] for one in asked(text="a colleague")["operations"]] == [untracked]
    assert [one["name"] for one in asked(state="active", orphaned="true")["operations"]] == [orphan]
    assert asked(state="SUCCEEDED", conn_id="earth_engine_default")["chosen"] == 0
    assert asked(conn_id="another")["chosen"] == 0
    page = asked(sort="description", descending="true", limit="1", offset="1")
    assert ([one["name"] for one in page["operations"]], page["chosen"]) == ([untracked], 2)


@pytest.mark.usefixtures("orphan")
def test_an_unchanged_response_is_not_sent_again(api: TestClient, earth_engine_emulator: Emulator) -> None:
    headers = role("admin")
    answer = api.get(OPERATIONS, headers=headers, params={"state": "PENDING", "limit": 50})
    unchanged = {**headers, "If-None-Match": answer.headers["ETag"]}

    again = api.get(OPERATIONS, headers=unchanged, params={"state": "PENDING", "limit": 50})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", answer.headers["ETag"])
    assert int(again.headers["Age"]) <= 5
    earth_engine_emulator.service.behave(pending_seconds=3600)
    earth_engine_emulator.service.add("another")
    doors._active.forget()
    assert api.get(OPERATIONS, headers=unchanged, params={"state": "PENDING", "limit": 50}).status_code == 200


def test_the_response_for_several_tabs_is_made_once(
    api: TestClient, orphan: str, untracked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors._everything, "_kept", 600.0)
    monkeypatch.setattr("airflow_ee_provider.plugins.permissions.KEPT", 600.0)
    made: list[str] = []
    make = page._content
    monkeypatch.setattr(page, "_content", lambda *args: made.append(args[-1].text) or make(*args))

    for _ in range(3):
        assert shown(api, limit=50).keys() == {orphan, untracked}
    assert not shown(api, limit=50, text="no such description")
    assert made == ["", "no such description"]

    forget_permissions()
    assert shown(api, limit=50).keys() == {orphan, untracked}
    assert made == ["", "no such description", ""], "The auth manager is asked again."
    assert not shown(api, "viewer", limit=50, text="no such description")
    assert len(made) == 4, "Another user gets an answer of their own."


@pytest.mark.usefixtures("api")
def test_the_response_for_simultaneous_requests_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ends, made = threading.Event(), threading.Event(), []
    make = page._content

    def slow(*args: Any) -> str:
        made.append(1)
        begun.set()
        assert ends.wait(30)
        return make(*args)

    monkeypatch.setattr(page, "_content", slow)
    overview, user = Overview([]), SimpleAuthManagerUser(username="admin", role="admin")
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(page.content, overview, 0.0, user, Place(), Choice(limit=50)) for _ in range(4)]
        assert begun.wait(30)
        time.sleep(0.2)  # For the other requests to arrive.
        ends.set()
        assert len({answer.result().etag for answer in asked}) == 1
    assert made == [1]


@pytest.mark.usefixtures("api")
def test_the_number_of_responses_kept_in_memory_is_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A long list serves requests for a minute, or until a user opens the page again; a filter can have any text."""
    monkeypatch.setattr(page, "MOST_KEPT", 3)
    overview, user = Overview([]), SimpleAuthManagerUser(username="admin", role="admin")

    for number in range(20):
        page.content(overview, 0.0, user, Place(), Choice(text=f"letters {number}", limit=50))

    gc.collect()
    assert sum(type(one) is Choice and "letters" in one.text for one in gc.get_objects()) == 3


@pytest.mark.parametrize(
    "params",
    [
        {"sort": "__class__"},
        {"limit": "-1"},
        {"limit": "3001"},
        {"limit": "1e3"},
        {"offset": "x"},
        {"mine": "perhaps"},
        {"map_index": ""},
        {"text": "x" * 301},
    ],
)
@pytest.mark.usefixtures("orphan")
def test_an_invalid_parameter_is_refused(api: TestClient, params: dict[str, str]) -> None:
    assert api.get(OPERATIONS, headers=role("admin"), params=params).status_code == 422


@pytest.mark.skipif(airflow_version < "3.1", reason="the page is for Airflow 3.1 and later")
def test_an_operation_of_a_users_own_dag_is_marked_as_mine(api: TestClient, orphan: str, untracked: str) -> None:
    assert not shown(api)[orphan]["mine"]
    user = SimpleAuthManagerUser(username="ada", role="admin")
    headers = {"Authorization": f"Bearer {get_auth_manager().generate_jwt(user)}"}

    mine = {one["name"]: one["mine"] for one in api.get(OPERATIONS, headers=headers).json()["operations"]}

    assert mine == {orphan: True, untracked: False}


@pytest.mark.parametrize(("method", "path"), [("GET", OPERATIONS), ("POST", ORPHANS)])
def test_a_request_without_a_valid_user_is_refused(api: TestClient, method: str, path: str) -> None:
    asked = {"operation_names": [], "since": "2026-01-01T00:00:00Z"}
    assert api.request(method, path, json=asked).status_code == 401
    assert api.request(method, path, json=asked, headers={"Authorization": "Bearer nonsense"}).status_code == 403


def test_a_user_who_may_read_a_dag_sees_its_operations_and_the_number_of_hidden_ones(
    api: TestClient, orphan: str, untracked: str
) -> None:
    """The simple auth manager's viewer may read DAGs, and no connection."""
    answer = api.get(OPERATIONS, headers=role("viewer"))

    [seen] = answer.json()["operations"]
    assert (seen["name"], answer.json()["hidden"]) == (orphan, 1)
    assert "the DAG held_owner, whose task instances you may not edit" in seen["forbidden"]
    assert untracked not in answer.text
    assert shown(api, "user")[orphan]["forbidden"] == ""
    assert shown(api, "op").keys() == {orphan, untracked}


def deny(monkeypatch: pytest.MonkeyPatch, *dag_ids: str | None) -> None:
    """Forbid all users every access to these DAGs; None stands for the request about all DAGs."""
    manager = get_auth_manager()
    allowed = manager.is_authorized_dag
    monkeypatch.setattr(
        manager,
        "is_authorized_dag",
        lambda **what: getattr(what.get("details"), "id", None) not in dag_ids and allowed(**what),
    )


def test_hidden_operations_are_counted_in_the_tab_of_a_dag_as_well(
    api: TestClient, orphan: str, untracked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deny(monkeypatch, "held_owner")

    answer = api.get(OPERATIONS, headers=role("op"), params={"dag_id": "held_owner", "task_id": "task"})

    assert (answer.json()["operations"], answer.json()["hidden"]) == ([], 1)
    assert orphan not in answer.text
    assert shown(api, "op").keys() == {untracked}


def test_a_reader_of_one_dag_may_open_the_page(api: TestClient, orphan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = get_auth_manager()
    deny(monkeypatch, None)
    with create_session() as session:
        if session.get(DagModel, "held_owner") is None:  # The dag.test() of Airflow 3.0 writes none.
            session.add(DagModel(dag_id="held_owner"))
    assert api.get(OPERATIONS, headers=role("user")).status_code == 200
    assert shown(api, "user").keys() == {orphan}

    forget_permissions()
    monkeypatch.setattr(manager, "get_authorized_dag_ids", lambda **_: set())
    assert api.get(OPERATIONS, headers=role("user")).status_code == 403


def test_the_auth_manager_is_asked_once_for_all_operations_and_its_answer_is_cached(
    api: TestClient, orphan: str, untracked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, asked = get_auth_manager(), []
    for name in ("batch_is_authorized_dag", "batch_is_authorized_connection"):
        allowed = getattr(manager, name)

        def ask(requests: Any, *, user: Any, name: str = name, allowed: Any = allowed) -> bool:
            asked.append((name, requests[0]["method"]))
            return bool(allowed(requests, user=user))

        monkeypatch.setattr(manager, name, ask)

    for _ in range(3):
        assert shown(api, "op").keys() == {orphan, untracked}

    assert sorted(asked) == [
        (name, method)
        for name in ("batch_is_authorized_connection", "batch_is_authorized_dag")
        for method in ("GET", "PUT")
    ]


def test_no_detail_of_a_connection_reaches_the_browser(
    api: TestClient, orphan: str, earth_engine_emulator: Emulator
) -> None:
    text = api.get(OPERATIONS, headers=role("admin")).text

    assert orphan in text
    assert earth_engine_emulator.url not in text
    assert "is_anonymous" not in text


def test_a_cancel_checks_permissions_again_that_the_page_has_cached(
    api: TestClient, orphan: str, earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown(api, "user")[orphan]["forbidden"] == ""
    deny(monkeypatch, "held_owner")

    answer = api.post(CANCEL, headers=role("user"), json={"operation_names": [orphan]})

    assert shown(api, "user").keys() == {orphan}  # From the cache.
    assert answer.status_code == 404
    assert earth_engine_emulator.service.state(orphan) == "RUNNING"


def test_a_user_who_may_not_see_or_edit_an_operation_cannot_cancel_it(
    api: TestClient, orphan: str, untracked: str, earth_engine_emulator: Emulator
) -> None:
    def cancel(user: str, name: str) -> int:
        return int(api.post(CANCEL, headers=role(user), json={"operation_names": [name]}).status_code)

    assert cancel("viewer", orphan) == 403
    assert cancel("viewer", untracked) == 404
    assert cancel("user", untracked) == 404
    assert [earth_engine_emulator.service.state(name) for name in (orphan, untracked)] == ["RUNNING"] * 2
    assert cancel("user", orphan) == 200


def test_a_cancel_reaches_earth_engine_and_the_audit_log(
    api: TestClient, orphan: str, untracked: str, earth_engine_emulator: Emulator
) -> None:
    answer = api.post(CANCEL, headers=role("op"), json={"operation_names": [orphan, untracked]})

    assert [one["outcome"] for one in answer.json()["results"]] == ["STILL_CANCELLING"] * 2, answer.text
    time.sleep(0.5)
    assert [earth_engine_emulator.service.state(name) for name in (orphan, untracked)] == ["CANCELLED"] * 2
    logged = {json.loads(entry.extra)["operation"]: entry for entry in audit_entries()}
    assert (logged[orphan].owner, logged[orphan].dag_id, logged[orphan].task_id) == ("op", "held_owner", "task")
    assert (logged[untracked].owner, logged[untracked].dag_id) == ("op", None)


def audit_entries() -> list[Any]:
    from airflow.models import Log
    from airflow.utils.session import create_session

    with create_session() as session:
        found: list[Any] = session.query(Log).filter(Log.event == "earth_engine.cancel").all()
        session.expunge_all()
    return found


def test_a_request_cancels_all_of_its_operations_or_none(
    api: TestClient, orphan: str, untracked: str, earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here, the user may cancel only one of two operations: the one that a task owns."""
    manager = get_auth_manager()
    allowed = manager.is_authorized_connection
    monkeypatch.setattr(manager, "is_authorized_connection", lambda **what: what["method"] == "GET" and allowed(**what))
    listed = shown(api, "op")
    assert listed[orphan]["forbidden"] == ""
    assert "only users who may edit the connection earth_engine_default" in listed[untracked]["forbidden"]

    answer = api.post(CANCEL, headers=role("op"), json={"operation_names": [orphan, untracked]})

    assert answer.status_code == 403
    assert "no task owns it" in answer.json()["detail"]
    assert earth_engine_emulator.service.state(orphan) == "RUNNING"


def test_a_user_with_permission_can_cancel_an_operation_that_cannot_be_read(
    api: TestClient, orphan: str, earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records decide who has the permission, as they do for an operation that can be read."""
    monkeypatch.setattr(retries.BACKOFF.jitter, "uniform", lambda *_: 0.0)
    earth_engine_emulator.service.fail("unavailable", method="GET", path=orphan, times=None)

    def cancel(user: str) -> Any:
        return api.post(CANCEL, headers=role(user), json={"operation_names": [orphan]})

    assert cancel("viewer").status_code == 403
    assert earth_engine_emulator.service.state(orphan) == "RUNNING"
    assert [one["outcome"] for one in cancel("user").json()["results"]] == ["STILL_CANCELLING"]
    assert earth_engine_emulator.service.state(orphan) in ("CANCELLING", "CANCELLED")


class Foreign(LoopbackServer):
    def answer(self, request: BaseHTTPRequestHandler) -> None:
        send(request, b"S3CR3T")


def test_a_cancel_does_not_show_the_response_of_another_local_service(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_time_fly(monkeypatch)
    name = "projects/earth-demo/operations/A"
    with Foreign() as server:
        extra = {"project": "earth-demo", "is_anonymous": True}
        connection = {"conn_type": "earth_engine", "host": server.url, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", json.dumps(connection))

        answer = api.post(CANCEL, headers=role("admin"), json={"operation_names": [name]})

    [result] = answer.json()["results"]
    assert result["error"]["message"].startswith("The server that this anonymous connection names")
    assert "S3CR3T" not in answer.text


def test_an_invalid_body_is_refused(api: TestClient, orphan: str) -> None:
    def post(body: Any) -> int:
        return int(api.post(CANCEL, headers=role("admin"), json=body).status_code)

    def raw(body: str) -> int:
        headers = {**role("admin"), "Content-Type": "application/json"}
        return int(api.post(CANCEL, headers=headers, content=body).status_code)

    assert post({"operation_names": []}) == 422
    assert post({"operation_names": ["projects/p/operations/UNKNOWN"]}) == 404
    assert post({"operation_names": [orphan] * 3001}) == 422
    assert post([orphan]) == 422
    assert post({"operation_names": [1] * 3}) == 422
    assert raw('{"operation_names": ["projects/p/operations/A\\udcff"]}') == 422  # A half of a character.
    assert raw('{"operation_names": [NaN]}') == 422
    assert raw("not JSON") == 422
    assert post({"operation_names": "x" * (3 * 2**20)}) == 413


def test_a_body_is_not_read_before_the_permission_check_and_not_sent_back(
    api: TestClient, orphan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {"operation_names": [7] * 500_000}

    refused = api.post(CANCEL, headers=role("admin"), json=large)
    monkeypatch.setattr(Permissions, "may_open", lambda _: False)

    assert (refused.status_code, len(refused.content) < 200) == (422, True)
    assert api.post(CANCEL, headers=role("admin"), json=large).status_code == 403
    assert orphan


@pytest.mark.parametrize("since", ["yesterday", "2026-01-01T00:00:00", None, 5])
def test_a_request_for_orphans_needs_a_time_with_a_zone(api: TestClient, orphan: str, since: Any) -> None:
    answer = api.post(ORPHANS, headers=role("admin"), json={"operation_names": [orphan], "since": since})

    assert answer.status_code == 422


def test_a_form_of_another_site_cancels_nothing(api: TestClient, orphan: str, earth_engine_emulator: Emulator) -> None:
    """A browser sends such a form with the user's cookie; only JSON needs the site's consent."""
    body = json.dumps({"operation_names": [orphan]})

    answer = api.post(CANCEL, headers={**role("admin"), "Content-Type": "text/plain"}, content=body)

    assert answer.status_code == 422
    assert earth_engine_emulator.service.state(orphan) == "RUNNING"


def asked_about(*names: str) -> dict[str, Any]:
    """Return the body of a request for orphans."""
    return {
        "operation_names": names,
        "since": (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat(),
    }


def test_the_endpoint_returns_the_orphans_among_the_given_operations(
    api: TestClient, orphan: str, untracked: str
) -> None:
    answer = api.post(ORPHANS, headers=role("admin"), json=asked_about(orphan, untracked))

    [(name, owner)] = answer.json()["orphans"].items()
    assert name == orphan
    assert owner.startswith("held_owner.task of ")
    assert api.post(ORPHANS, headers=role("admin"), json=asked_about(untracked)).json() == {"orphans": {}}


def test_a_user_who_may_not_read_every_dag_gets_no_orphans(
    api: TestClient, orphan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, an operation that a task of a hidden DAG still needs could be returned as orphaned."""
    deny(monkeypatch, "held_owner")
    answer = api.post(ORPHANS, headers=role("op"), json=asked_about(orphan))

    assert answer.status_code == 403
    assert orphan not in answer.text
    assert api.get(OPERATIONS, headers=role("op")).json()["hidden"] == 1


def test_another_teams_operation_is_not_shown(api: TestClient, orphan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Airflow has teams, a DAG of another team is not shown."""
    from airflow.models.connection import Connection
    from airflow.models.dag import DagModel

    if not hasattr(DagModel, "get_dag_id_to_team_name_mapping"):
        pytest.skip("This Airflow has no teams")

    def teams(ids: list[str], **_: Any) -> dict[str, str]:
        return dict.fromkeys(ids, "marine")

    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    monkeypatch.setattr(DagModel, "get_dag_id_to_team_name_mapping", staticmethod(teams))

    assert orphan not in shown(api, "op")
    assert orphan in shown(api, "admin")
    # A DAG owns no operation in the connection of another team, even if it has recorded one.
    monkeypatch.setattr(DagModel, "get_dag_id_to_team_name_mapping", staticmethod(lambda *_, **__: {}))
    monkeypatch.setattr(Connection, "get_conn_id_to_team_name_mapping", staticmethod(teams))
    forget_permissions()
    assert orphan not in shown(api, "user")


def test_a_project_that_cannot_be_listed_is_an_error_on_the_page(
    api: TestClient, earth_engine_emulator: Emulator
) -> None:
    earth_engine_emulator.service.fail("not_registered", times=None)

    answer = api.get(OPERATIONS, headers=role("admin"))

    assert "Register the project at" in answer.json()["errors"]["earth_engine_default"]
    unnamed = api.get(OPERATIONS, headers=role("viewer")).json()
    assert (unnamed["errors"], unnamed["hidden_errors"]) == ({}, 1)


def test_a_slow_earth_engine_is_asked_once_and_requests_do_not_wait_for_it() -> None:
    answers, asked = threading.Event(), []

    def read() -> Overview:
        asked.append(1)
        assert answers.wait(30)
        return Overview([])

    async def look() -> None:
        overview = CachedOverview(read, kept=0.1, patience=0.2)
        results = await asyncio.gather(*(overview.get() for _ in range(50)), return_exceptions=True)
        assert {type(one) for one in results} == {TimeoutError}
        assert len(asked) == 1
        answers.set()
        first, _ = await overview.get()
        answers.clear()
        await asyncio.sleep(0.15)
        again, age = await overview.get()  # The last result, since the new one takes long.
        assert again is first
        assert age > 0.1
        answers.set()

    asyncio.run(look())


@pytest.mark.usefixtures("untracked")
def test_slow_cancels_block_no_other_request(api: TestClient, orphan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = threading.Event()
    monkeypatch.setattr(page, "cancel", lambda *_: [] if ends.wait(600) else None)
    with ThreadPoolExecutor(10) as threads:
        asked = {"operation_names": [orphan]}
        cancels = [threads.submit(api.post, CANCEL, headers=role("admin"), json=asked) for _ in range(10)]
        try:
            assert orphan in shown(api)
            assert api.post(ORPHANS, headers=role("admin"), json=asked_about(orphan)).status_code == 200
            assert not any(cancel.done() for cancel in cancels)
        finally:
            ends.set()
        assert {cancel.result().status_code for cancel in cancels} == {200}


def test_slow_work_in_one_pool_does_not_block_another_pool() -> None:
    ends = threading.Event()

    async def work() -> None:
        cancels, permissions = Pool("cancels", threads=2, waiting=1), Pool("permissions", threads=1, waiting=1)
        slow = [asyncio.ensure_future(cancels.run(ends.wait, 30)) for _ in range(3)]
        await asyncio.sleep(0)
        assert await permissions.run(lambda: "answered") == "answered"
        with pytest.raises(HTTPException, match="503"):
            await cancels.run(lambda: None)
        ends.set()
        assert await asyncio.gather(*slow) == [True] * 3
        assert await cancels.run(lambda: "again") == "again"

    asyncio.run(work())


def test_a_teams_connection_is_found(
    api: TestClient, earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    if not hasattr(Connection, "get_conn_id_to_team_name_mapping"):
        pytest.skip("This Airflow has no teams")
    from airflow.models.team import Team

    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    monkeypatch.setenv("AIRFLOW__EARTH_ENGINE__CONNECTIONS", "of_marine")
    connection = Connection.from_json(earth_engine_emulator.airflow_connection(), "of_marine")
    connection.team_name = "marine"
    with create_session() as session:
        session.merge(Team(name="marine"))
        session.flush()
        session.add(connection)
    try:
        name = earth_engine_emulator.service.add("a team's", run_seconds=3600)

        answer = api.get(OPERATIONS, headers=role("admin")).json()
        assert (answer["errors"], [one["name"] for one in answer["operations"]]) == ({}, [name])
        assert shown(api, "op").keys() == set()
        member = SimpleAuthManagerUser(username="ada", role="op", teams=["marine"])
        headers = {"Authorization": f"Bearer {get_auth_manager().generate_jwt(member)}"}
        assert api.get(OPERATIONS, headers=headers).json()["total"] == 1
        assert api.post(CANCEL, headers=headers, json={"operation_names": [name]}).status_code == 200
    finally:
        with create_session() as session:
            session.query(Connection).filter(Connection.conn_id == "of_marine").delete()
