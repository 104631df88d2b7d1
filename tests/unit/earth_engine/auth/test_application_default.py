"""A machine without a key: credentials from the metadata server of Google's machines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from google.auth.compute_engine import _metadata
from loopback import LoopbackServer

from airflow_ee_provider.earth_engine.auth import application_default
from airflow_ee_provider.earth_engine.auth.credentials import open_account
from airflow_ee_provider.earth_engine.auth.settings import ConnectionSettings
from airflow_ee_provider.earth_engine.model.errors import CredentialsError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

EMPTY = ConnectionSettings(project="earth-demo")


class MetadataServer(LoopbackServer):
    """Google's metadata server, or another server at its address."""

    is_googles = False
    asked = 0

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked += 1
        request.send_response(200)
        if self.is_googles:
            request.send_header("Metadata-Flavor", "Google")
        request.send_header("Content-Length", "0")
        request.end_headers()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MetadataServer]:
    monkeypatch.setattr(
        _metadata, "_NO_GCE_CHECK", False, raising=False
    )  # Read from its variable when it was imported.
    monkeypatch.setattr(
        _metadata, "_GCE_PRODUCT_NAME_FILE", str(tmp_path / "none")
    )  # This may be a machine of Google's.
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with MetadataServer() as server:
        monkeypatch.setenv("GCE_METADATA_IP", server.url.removeprefix("http://"))
        monkeypatch.setattr(_metadata, "_METADATA_IP_ROOT", server.url, raising=False)  # For older versions.
        yield server


def test_missing_metadata_server_is_a_transient_error_and_not_asked_by_each_hook(server: MetadataServer) -> None:
    for _ in range(3):
        with pytest.raises(TransientError, match=r"metadata server .* does not answer") as caught:
            open_account(EMPTY)

        assert not caught.value.permanent
        assert "GOOGLE_APPLICATION_CREDENTIALS" in str(caught.value)
    assert server.asked == 1


def test_metadata_server_is_asked_again_after_a_while(server: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TransientError):
        open_account(EMPTY)
    server.is_googles = True
    monkeypatch.setattr(application_default, "REMEMBERED", 0.0)

    assert type(open_account(EMPTY).credentials).__module__ == "google.auth.compute_engine.credentials"


def test_key_that_is_added_meanwhile_is_used(server: MetadataServer, tmp_path: Path) -> None:
    with pytest.raises(TransientError):
        open_account(EMPTY)
    user = {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"}
    (tmp_path / "application_default_credentials.json").write_text(json.dumps(user))

    assert open_account(EMPTY).credentials.refresh_token == "c"  # noqa: S105 (not a secret)
    assert server.asked == 1


def test_missing_file_and_disabled_metadata_server_are_permanent_errors(
    server: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    with pytest.raises(CredentialsError, match="Application Default Credentials"):
        open_account(EMPTY)
    assert server.asked == 0
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", True, raising=False)

    with pytest.raises(CredentialsError, match="Application Default Credentials"):
        open_account(EMPTY)
