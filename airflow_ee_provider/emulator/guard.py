"""Access to the emulator: programs may use it, but a web page that is open in a browser may not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web

from airflow_ee_provider.emulator.batch import CONTENT_TYPE as BATCH
from airflow_ee_provider.emulator.faults import ApiError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse the requests of web pages from another origin, by their Origin, Host or content type."""
    if problem := _problem(request):
        return web.json_response(ApiError("PERMISSION_DENIED", problem).as_json(), status=403)
    return await handler(request)


def _problem(request: web.Request) -> str:
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        return "The emulator answers no web page of another origin."
    name = request.transport.get_extra_info("sockname") if request.transport else None
    if name and _is_loopback(name[0]) and not _is_loopback(_host(request)):
        return "The emulator is asked for by another name than this machine's."
    # A page of another origin cannot send these content types without a preflight request.
    expected = BATCH if request.path == "/batch" else "application/json"
    if request.can_read_body and request.content_type != expected:
        return f"The emulator reads {expected} only."
    return ""


def _host(request: web.Request) -> str:
    try:
        return urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
