"""Several requests in one, as the JavaScript client sends them: ``POST /batch`` with multipart/mixed.

The server sends each part to itself as a separate request, so that faults, limits and the journal apply to it.
"""

from __future__ import annotations

import re

from aiohttp import ClientSession, ClientTimeout, web

from airflow_ee_provider.emulator.faults import ApiError

CONTENT_TYPE = "multipart/mixed"
_MOST_PARTS = 1000
_BOUNDARY = "batch_emulator"
_CONTENT_ID = re.compile(r"^Content-ID:\s*<([^>\r\n]*)>", re.IGNORECASE | re.MULTILINE)
_REQUEST = re.compile(r"(?P<method>[A-Z]+) (?P<path>/[^\s]*) HTTP/1\.1")


async def answer_batch(request: web.Request) -> web.Response:
    """Answer each part, in the same order.

    :raises ApiError: INVALID_ARGUMENT, if the batch or a part of it is not valid.
    """
    boundary = request.content_type == CONTENT_TYPE and re.search(
        r'boundary="?([^";]+)', request.headers["Content-Type"]
    )
    if not boundary:
        raise ApiError("INVALID_ARGUMENT", f"Failed to parse batch request: it is not {CONTENT_TYPE}.")
    parts = (await request.text()).split(f"--{boundary[1]}")[1:-1]
    if len(parts) > _MOST_PARTS:
        raise ApiError("INVALID_ARGUMENT", f"The number of calls in this batch exceeds the limit of {_MOST_PARTS}.")
    origin = f"{request.scheme}://{request.host}"
    async with ClientSession(timeout=ClientTimeout(total=60)) as session:
        answers = [await _answer(session, origin, part) for part in parts]
    body = "".join(f"--{_BOUNDARY}\r\n{answer}\r\n" for answer in answers) + f"--{_BOUNDARY}--\r\n"
    return web.Response(
        body=body.encode(),
        headers={"Content-Type": f"{CONTENT_TYPE}; boundary={_BOUNDARY}"},
    )


async def _answer(session: ClientSession, origin: str, part: str) -> str:
    head, _, inner = part.strip("\r\n").partition("\r\n\r\n")
    request_head, _, body = inner.partition("\r\n\r\n")
    first, *headers = request_head.split("\r\n")
    found, content_id = _REQUEST.fullmatch(first.strip()), _CONTENT_ID.search(head)
    if not found or not content_id:
        raise ApiError(
            "INVALID_ARGUMENT", "Failed to parse batch request: a part is no HTTP request with a Content-ID."
        )
    passed = {name.strip(): value.strip() for name, _, value in (header.partition(":") for header in headers) if value}
    async with session.request(
        found["method"], f"{origin}{found['path']}", data=body.encode(), headers=passed
    ) as answer:
        text = await answer.text()
    return (
        f"Content-Type: application/http\r\nContent-ID: <response-{content_id[1]}>\r\n\r\n"
        f"HTTP/1.1 {answer.status} {answer.reason}\r\nContent-Type: {answer.content_type}\r\n\r\n{text}"
    )
