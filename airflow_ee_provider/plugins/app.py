"""The REST endpoints of the UI page: list operations with their tasks, and cancel some.

Requests to Earth Engine, the database and the auth manager run in the page's own threads, so that a slow one blocks
neither the API server's event loop nor the threads of other pages. The browser gets an answer within seconds; if Earth
Engine is slow, the last overview.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep  # noqa: TC002 (FastAPI reads it)
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.staticfiles import StaticFiles

from airflow_ee_provider.plugins import page
from airflow_ee_provider.plugins.asked import choice_in, names_in, place_in, read_json, time_in
from airflow_ee_provider.plugins.cached_overview import of_active, of_everything
from airflow_ee_provider.plugins.permissions import permissions_of
from airflow_ee_provider.tracking.unhurried import serve

if TYPE_CHECKING:
    from collections.abc import Callable


class Pool:
    """Threads for one kind of work.

    :param name: The name of the threads.
    :param threads: The number of threads.
    :param waiting: How many calls may wait for a thread.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"earth-engine-{name}")
        self._most, self._open = threads + waiting, 0

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in one of the threads. Must be called on the event loop.

        :raises HTTPException: With status 503, if too many calls wait already. The function was not called.
        """
        if self._open >= self._most:
            raise HTTPException(503, "The server is busy, and nothing was done. Try again in a minute.")
        # In the caller's context, as for Airflow's own endpoints, since an auth manager may store its app there.
        context = copy_context()
        work = asyncio.get_running_loop().run_in_executor(self._threads, context.run, function, *args)
        self._open += 1
        work.add_done_callback(self._done)
        return await work

    def _done(self, _: Any) -> None:
        self._open -= 1


#: The most operations that one cancel request may name: the size of a project's queue.
MOST_AT_ONCE = 3000

#: The most operations that one request for orphans may name.
MOST_ASKED = 30_000

app = FastAPI(title="Google Earth Engine's operations", docs_url=None, redoc_url=None, openapi_url=None)
app.mount("/static", StaticFiles(directory=Path(__file__).parent / "www" / "dist"), name="static")

serve()
_active, _everything = of_active(), of_everything()
_permissions = Pool("permissions", threads=4, waiting=400)
_answers = Pool("answers", threads=4, waiting=400)
#: A request to this pool may take `page.CANCEL_TIMEOUT`.
_cancels = Pool("cancels", threads=8, waiting=32)


@app.get("/operations")
async def operations(user: GetUserDep, request: Request) -> Response:
    """Return the operations that a user may see: all, or those of a DAG, a run, or a task of a run.

    The query has the fields of `Place` (``dag_id``, ``run_id``, ``task_id``, ``map_index``) and of `Choice` (``state``,
    ``dag``, ``conn_id``, ``text``, ``orphaned``, ``mine``, ``sort``, ``descending``, ``limit``, ``offset``). The answer
    has the chosen ones as ``operations``; how many the user may see here (``total``), how many of these are ``chosen``
    and ``orphaned``; and the ``totals`` of the chosen ones by DAG. With the ``ETag`` of an earlier answer as
    ``If-None-Match``, the answer is 304 if nothing has changed. ``Age`` is the answer's age in seconds.
    """
    await _refuse_unless(_may_open, user, needs="to read the runs of a DAG, or connections")
    place, choice = place_in(request.query_params), choice_in(request.query_params)
    try:
        overview, age = await (_active if choice.is_of_active else _everything).get()
    except TimeoutError:
        raise HTTPException(504, "Earth Engine has not answered yet. The page tries again automatically.") from None
    content = await _answers.run(page.content, overview, age, user, place, choice)
    about = {"Cache-Control": "no-store", "ETag": content.etag, "Age": f"{age:.0f}"}
    if content.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=about)
    return Response(content.text, media_type="application/json", headers=about)


@app.post("/operations/cancel")
async def cancel(user: GetUserDep, request: Request) -> Response:
    """Request the cancel of the ``operation_names`` in the body; return the result of each request."""
    await _refuse_unless(_may_open, user, needs="to read the runs of a DAG, or connections")
    names = names_in(await read_json(request), 1, MOST_AT_ONCE)
    try:
        results = await _cancels.run(page.cancel, user, list(dict.fromkeys(names)))
    except PermissionError as error:
        raise HTTPException(403, str(error)) from None
    except LookupError as error:
        raise HTTPException(404, str(error)) from None
    _active.forget()
    _everything.forget()
    return await _json({"results": results})


@app.post("/orphans")
async def orphans(user: GetUserDep, request: Request) -> Response:
    """Return which of the active ``operation_names`` in the body are orphaned, by the records ``since`` a time.

    `airflow_ee_provider.tracking.api_client` calls it. It is not a GET, since a URL is too short for the names of a
    full queue.
    """
    await _refuse_unless(_may_read_xcoms, user, needs="to read the XComs of all DAGs")
    asked = await read_json(request)
    names, since = names_in(asked, 0, MOST_ASKED), time_in(asked, "since")
    try:
        found = await _answers.run(page.orphans, user, names, since)
    except PermissionError as error:
        raise HTTPException(403, str(error)) from None
    return await _json({"orphans": found})


def _may_open(user: Any) -> bool:
    return permissions_of(user).may_open()


def _may_read_xcoms(user: Any) -> bool:
    return permissions_of(user).may_read_all(DagAccessEntity.XCOM)


async def _refuse_unless(may: Callable[[Any], bool], user: Any, needs: str) -> None:
    if not await _permissions.run(may, user):
        raise HTTPException(403, f"You need the permission {needs}.")


async def _json(content: Any) -> Response:
    text = await _answers.run(json.dumps, content)
    return Response(text, media_type="application/json", headers={"Cache-Control": "no-store"})
