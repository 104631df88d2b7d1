"""Batches of requests, which the JavaScript client sends for several cancels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator

MIXED = {"Content-Type": "multipart/mixed; boundary=x"}


def part(name: str, request: str) -> str:
    return f"--x\r\nContent-Type: application/http\r\nContent-ID: <{name}>\r\n\r\n{request}\r\n\r\n{{}}\r\n"


def cancel(name: str) -> str:
    return f"POST /v1/{name}:cancel HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization: Bearer t"


def test_each_part_has_its_own_response_and_its_own_faults(earth_engine_emulator: Emulator) -> None:
    service = earth_engine_emulator.service
    first, second = service.add("x"), service.add("y")
    service.fail("unavailable", path=f"{second}:cancel")
    body = part("a", cancel(first)) + part("b", cancel(second)) + "--x--\r\n"

    answer = requests.post(f"{earth_engine_emulator.url}/batch", data=body, headers=MIXED, timeout=30)

    assert answer.headers["Content-Type"].startswith("multipart/mixed; boundary=")
    first_answer, second_answer = answer.text.split("<response-")[1:]
    assert first_answer.startswith("a>\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert second_answer.startswith("b>\r\n\r\nHTTP/1.1 503 ")
    assert (service.state(first), service.state(second)) == ("CANCELLING", "PENDING")
    assert [entry["authorized"] for entry in service.requests("POST", "*:cancel")] == [True, True]


def test_invalid_batch_is_refused(earth_engine_emulator: Emulator) -> None:
    name = earth_engine_emulator.service.add("x")
    for body, headers, status in (
        (part("a", "no request") + "--x--\r\n", MIXED, 400),
        (part("a", cancel("/evil.example")).replace("POST /", "POST http://") + "--x--\r\n", MIXED, 400),
        ("{}", {"Content-Type": "multipart/mixed"}, 400),
        ("{}", {"Content-Type": "application/json"}, 403),
    ):
        answer = requests.post(f"{earth_engine_emulator.url}/batch", data=body, headers=headers, timeout=30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)
    assert earth_engine_emulator.service.state(name) == "PENDING"
