from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ee_provider.emulator import Emulator


@pytest.fixture
def ee(earth_engine_emulator: Emulator) -> Iterator[Any]:
    import ee as client
    import google.oauth2.credentials

    # It also fetches a list of deprecations from another host, without a timeout of its own.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(5)
    try:
        client.Initialize(
            credentials=google.oauth2.credentials.Credentials(token="t"),  # noqa: S106
            url=earth_engine_emulator.url,
            project="earth-demo",
        )
    finally:
        socket.setdefaulttimeout(before)
    yield client
    client.Reset()
