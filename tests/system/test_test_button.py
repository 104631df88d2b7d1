"""The Test button of the connection form: its response, and the API server's log, contain no field's value."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tokens import TokenServer

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

pytestmark = pytest.mark.system

MARK = "s3cr3t-of-the-test-button"


def press(airflow: StandaloneAirflow, host: str, extra: dict[str, Any]) -> dict[str, Any]:
    body = {"connection_id": "t", "conn_type": "earth_engine", "host": host, "extra": json.dumps(extra)}
    answer: dict[str, Any] = airflow.call("POST", "/connections/test", body)
    return answer


@pytest.mark.parametrize("field", ["key_path", "keyfile_dict", "credential_config_file", "key_secret_name"])
def test_a_key_in_the_wrong_field_is_not_shown(airflow: StandaloneAirflow, emulator: Emulator, field: str) -> None:
    key = json.dumps({"type": "service_account", "private_key": MARK, "client_email": MARK, "token_uri": MARK})

    answer = press(airflow, emulator.url, {field: key, "project": "earth-demo"})

    assert answer["status"] is False
    assert MARK not in json.dumps(answer)
    assert not [path for path in airflow.home.glob("*.log") if MARK in path.read_text(errors="replace")]


def test_working_connection_reports_success(airflow: StandaloneAirflow, emulator: Emulator) -> None:
    with TokenServer() as tokens:
        connection = json.loads(tokens.airflow_connection(emulator.url))

        answer = press(airflow, emulator.url, connection["extra"])

    assert answer["status"] is True, answer
