"""The servers of the demo and the system tests are reachable from this machine only: each client is an admin."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

pytestmark = pytest.mark.system


def test_everything_listens_on_loopback_only(airflow: StandaloneAirflow, emulator: Emulator) -> None:
    assert emulator
    listening = []
    for process in [*airflow.descendants(), psutil.Process()]:
        with suppress(psutil.NoSuchProcess):  # The process has ended meanwhile.
            found = process.net_connections()
            listening += [connection.laddr for connection in found if connection.status == psutil.CONN_LISTEN]

    assert len(listening) >= 3  # Two API servers, and the emulator.
    assert [address for address in listening if not ip_address(address.ip).is_loopback] == []
