"""The emulator's HTTP server: Earth Engine's paths below ``/v1``, ``/v1beta`` and ``/v1alpha``, and ``/emulator``."""

from __future__ import annotations

import asyncio
import json
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from aiohttp import web

from airflow_ee_provider.emulator.batch import answer_batch
from airflow_ee_provider.emulator.discovery import discovery_document
from airflow_ee_provider.emulator.faults import ERRORS, MALFORMED_OPERATION, ApiError, Fault
from airflow_ee_provider.emulator.guard import Handler, guard
from airflow_ee_provider.emulator.official_client import algorithms

if TYPE_CHECKING:
    from airflow_ee_provider.emulator.service import Service

_VERSION = r"/{version:v1|v1beta|v1alpha}"
_OPERATION = r"{name:projects/[^/]+/operations/[^:]+}"
_HTML = "<html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1>nginx</body></html>"


def make_app(service: Service) -> web.Application:
    """Make the application that serves a `Service`."""

    async def date(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = formatdate(service.clock.now(), usegmt=True)

    app = web.Application(middlewares=[guard, _journal(service)])
    app.on_response_prepare.append(date)
    api = _Api(service)
    app.add_routes(
        [
            web.get("/$discovery/rest", api.discovery),
            web.get(_VERSION + "/projects/{project}/algorithms", api.algorithms),
            web.get(_VERSION + "/projects/{project}/operations", api.list),
            web.get(_VERSION + "/" + _OPERATION, api.get),
            web.delete(_VERSION + "/" + _OPERATION, api.delete),
            web.post(_VERSION + "/" + _OPERATION + ":cancel", api.cancel),
            web.post(_VERSION + "/" + _OPERATION + ":wait", api.wait),
            web.post(_VERSION + "/projects/{project}/{kind}:export", api.export),
            web.post(_VERSION + "/projects/{project}/{kind}:import", api.start_import),
            web.route("*", _VERSION + "/{path:.*}", api.anything_else),
            web.post("/batch", answer_batch),
            web.get("/emulator/journal", api.read_journal),
            web.post("/emulator/faults", api.add_fault),
            web.post("/emulator/behaviours", api.add_behaviour),
            web.post("/emulator/answers", api.add_answer),
            web.post("/emulator/clock", api.advance_clock),
            web.post("/emulator/operations", api.add_operation),
        ]
    )
    return app


class _Api:
    """The handlers of the requests. They call the service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def discovery(self, request: web.Request) -> web.Response:
        return web.json_response(discovery_document(f"{request.scheme}://{request.host}"))

    async def algorithms(self, request: web.Request) -> web.Response:
        if self._service.has_answer(request.method, f"projects/{request.match_info['project']}/algorithms"):
            return await self.anything_else(request)
        return web.Response(body=algorithms(), content_type="application/json")

    async def list(self, request: web.Request) -> web.Response:
        size, token = int(request.query.get("pageSize") or 0), request.query.get("pageToken", "")
        return web.json_response(self._service.list(request.match_info["project"], size, token))

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response(self._service.get(request.match_info["name"]))

    async def delete(self, request: web.Request) -> web.Response:
        return web.json_response(self._service.delete(request.match_info["name"]))

    async def cancel(self, request: web.Request) -> web.Response:
        if await request.read() not in (b"", b"{}"):
            raise ApiError("INVALID_ARGUMENT", "The request body must be empty.")
        return web.json_response(self._service.cancel(request.match_info["name"]))

    async def wait(self, request: web.Request) -> web.Response:
        """Return the operation when it has ended, or after a second. The real API may also respond before the end."""
        operation = self._service.get(request.match_info["name"])
        for _ in range(10):
            if operation.get("done"):
                break
            await asyncio.sleep(0.1)
            operation = self._service.get(request.match_info["name"])
        return web.json_response(operation)

    async def export(self, request: web.Request) -> web.Response:
        project, kind = request.match_info["project"], request.match_info["kind"]
        return web.json_response(self._service.start(project, kind, await request.read()))

    async def start_import(self, request: web.Request) -> web.Response:
        project, kind = request.match_info["project"], request.match_info["kind"]
        return web.json_response(self._service.start(project, f"{kind}:import", await request.read()))

    async def anything_else(self, request: web.Request) -> web.Response:
        body = await request.read()
        path = request.path.lstrip("/").partition("/")[2]
        answer = self._service.anything_else(request.method, path, _readable(body) if body else None)
        return web.Response(body=answer) if isinstance(answer, bytes) else web.json_response(answer)

    async def read_journal(self, request: web.Request) -> web.Response:
        return web.json_response(self._service.journal)

    async def add_fault(self, request: web.Request) -> web.Response:
        self._service.fail(**await request.json())
        return web.json_response({})

    async def add_behaviour(self, request: web.Request) -> web.Response:
        self._service.behave(**await request.json())
        return web.json_response({})

    async def add_answer(self, request: web.Request) -> web.Response:
        self._service.answer(**await request.json())
        return web.json_response({})

    async def advance_clock(self, request: web.Request) -> web.Response:
        self._service.clock.advance((await request.json())["advance"])
        return web.json_response({})

    async def add_operation(self, request: web.Request) -> web.Response:
        return web.json_response({"name": self._service.add(**await request.json())})


def _journal(service: Service) -> Any:
    """Return a middleware that records each request to Earth Engine and applies the faults."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        version, _, path = request.path.lstrip("/").partition("/")
        if not version.startswith("v1"):
            return await _guarded(request, handler)
        fault = service.fault_for(request.method, path)
        body = await request.read()
        response = await _admit(service, request, handler, fault)
        service.record(
            method=request.method,
            path=path,
            query=dict(request.query),
            status=0 if response is None else response.status,
            fault=fault.what if fault else "",
            authorized="Authorization" in request.headers,
            quota_project=request.headers.get("X-Goog-User-Project", ""),
            body=_readable(body),
        )
        if response is None:
            # The client sees a reset connection, and cannot know whether the service has acted.
            if request.transport:
                request.transport.abort()
            return web.Response()
        return response

    return middleware


async def _admit(
    service: Service, request: web.Request, handler: Handler, fault: Fault | None
) -> web.StreamResponse | None:
    """Refuse the request if it is above a limit; otherwise respond, after the latency."""
    try:
        with service.gate.admitted():
            if service.gate.limits.latency:
                await asyncio.sleep(service.gate.limits.latency)
            return await _answer(request, handler, fault)
    except ApiError as error:
        return web.json_response(error.as_json(), status=error.http_status)


async def _answer(request: web.Request, handler: Handler, fault: Fault | None) -> web.StreamResponse | None:
    """Respond with the fault; return None to reset the connection."""
    if fault is None:
        return await _guarded(request, handler)
    what = fault.what
    if what == "reset":
        return None
    if what == "html":
        return web.Response(status=502, text=_HTML, content_type="text/html")
    if what in ERRORS:
        return web.json_response(ERRORS[what].as_json(), status=ERRORS[what].http_status, headers=dict(fault.headers))
    if what == "delay":
        await asyncio.sleep(fault.seconds)
    response = await _guarded(request, handler)
    if what == "reset_after":
        return None
    if not isinstance(response.body, bytes):
        return response
    return web.Response(status=response.status, body=_broken(what, response.body), content_type="application/json")


def _broken(what: str, body: bytes) -> bytes:
    """Return a response's body, broken by the fault."""
    if what == "empty":
        return b""
    if what == "truncated":
        return body[: len(body) // 2]
    if what == "not_an_object":
        return b"[]"
    if what == "wrong_types":
        return json.dumps(MALFORMED_OPERATION).encode()
    page = json.loads(body)
    if "operations" in page:
        if what == "repeated_page":
            page["nextPageToken"] = "0"
        elif what == "duplicated":
            page["operations"] *= 2
        elif what == "dropped":
            page["operations"] = []
    return json.dumps(page).encode()


async def _guarded(request: web.Request, handler: Handler) -> web.Response:
    """Respond with the API's JSON, also for an error."""
    try:
        response = await handler(request)
    except ApiError as error:
        return web.json_response(error.as_json(), status=error.http_status)
    except web.HTTPNotFound:
        unknown = ApiError("NOT_FOUND", f"The emulator knows no {request.method} {request.path}.")
        return web.json_response(unknown.as_json(), status=404)
    except (TypeError, ValueError, KeyError) as error:
        return web.json_response(ApiError("INVALID_ARGUMENT", str(error)).as_json(), status=400)
    return response if isinstance(response, web.Response) else web.Response()


def _readable(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
