"""The emulator as a separate program."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def url() -> Iterator[str]:
    command = [sys.executable, "-m", "airflow_ee_provider.emulator", "--port", "0", "--run-seconds", "100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout
        greeting = process.stdout.readline() + process.stdout.readline()
        assert "AIRFLOW_CONN_EARTH_ENGINE_DEFAULT" in greeting
        yield next(word for word in greeting.split() if word.startswith("http://")).rstrip(",")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 0


def post(url: str, what: str, /, **body: Any) -> Any:
    return requests.post(f"{url}/emulator/{what}", json=body, timeout=10).json()


def get(url: str, path: str) -> Any:
    return requests.get(f"{url}/{path}", timeout=10).json()


def test_requests_control_the_emulator(url: str) -> None:
    post(url, "behaviours", description="ndvi", pending_seconds=0, attempt=2)
    name = post(url, "operations", description="ndvi")["name"]
    post(url, "faults", what="unavailable", path="*:cancel")

    running = get(url, f"v1/{name}")
    refused = requests.post(f"{url}/v1/{name}:cancel", timeout=10)
    post(url, "clock", advance=101)
    ended = get(url, f"v1alpha/{name}")

    assert running["metadata"]["attempt"] == 2
    assert refused.status_code == 503
    assert ended["metadata"]["state"] == "SUCCEEDED"
    assert [(e["method"], e["status"]) for e in get(url, "emulator/journal")] == [
        ("GET", 200),
        ("POST", 503),
        ("GET", 200),
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ],
)
def test_a_web_page_cannot_control_the_emulator(url: str, headers: dict[str, str]) -> None:
    refused = requests.post(f"{url}/emulator/operations", data=b"{}", headers=headers, timeout=10)

    assert refused.status_code == 403
    assert get(url, "v1/projects/earth-demo/operations") == {}


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("clock", {"advance": 1e15}),
        ("clock", {"advance": "tomorrow"}),
        ("behaviours", {"run_seconds": "long"}),
        ("behaviours", {"outcome": "MAYBE"}),
        ("behaviours", {"description": 7}),
        ("behaviours", {"message": {}}),
        ("faults", {"what": "delay", "seconds": "long"}),
        ("faults", {"what": "unavailable", "headers": {"Retry-After": "1\r\nX: y"}}),
        ("faults", {"what": "unavailable", "path": 7}),
        ("faults", {"what": "unavailable", "probability": "often"}),
        ("operations", {"kind": "poem"}),
        ("operations", {"description": []}),
        ("operations", {"project": "../x"}),
    ],
)
def test_an_invalid_command_is_refused_and_breaks_no_later_response(url: str, what: str, body: dict[str, Any]) -> None:
    assert post(url, what, **body)["error"]["status"] == "INVALID_ARGUMENT"

    name = post(url, "operations", description="x")["name"]
    assert get(url, f"v1/{name}")["metadata"]["state"] == "PENDING"


def test_a_port_in_use_is_reported_without_a_traceback(url: str) -> None:
    port = url.rpartition(":")[2]
    command = [sys.executable, "-m", "airflow_ee_provider.emulator", "--port", port]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603

    assert second.returncode == 2
    assert f"Port {port} of 127.0.0.1 is in use. Choose another with --port; 0 for a free one." in second.stderr
    assert "Traceback" not in second.stderr


def test_unknown_resources_and_faults_are_answered_with_the_apis_errors(url: str) -> None:
    assert get(url, "v1/projects/earth-demo/assets")["error"]["status"] == "FAILED_PRECONDITION"
    assert get(url, "v1/projects/earth-demo/operations/UNKNOWN")["error"]["status"] == "NOT_FOUND"
    assert post(url, "faults", what="earthquake")["error"]["status"] == "INVALID_ARGUMENT"
    waited = requests.post(f"{url}/v1/projects/earth-demo/operations/A:wait", json={"timeout": "1s"}, timeout=10)
    assert waited.status_code == 404
