"""A user who may edit a connection but not see its key gets no token, no file and no other server's response."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from google.auth.exceptions import RefreshError, TransportError
from google.oauth2.credentials import Credentials
from tokens import FEDERATION

from airflow_ee_provider.earth_engine.auth.credentials import open_account
from airflow_ee_provider.earth_engine.auth.settings import ConnectionSettings
from airflow_ee_provider.earth_engine.auth.trust import Trust, check_token_may_go_to, endpoint_of
from airflow_ee_provider.earth_engine.model.errors import CredentialsError, EarthEngineError, InvalidRequestError
from airflow_ee_provider.earth_engine.transport.transports import no_token

if TYPE_CHECKING:
    from pathlib import Path

USER = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}


def settings(trust: Trust | None = None, **extra: Any) -> ConnectionSettings:
    read = ConnectionSettings.from_extra({"project": "p", **extra}, extra.pop("host", None))
    return replace(read, trust=trust) if trust else read


@pytest.mark.parametrize(
    "host",
    [
        "https://evil.example",
        "https://earthengine.googleapis.com.evil.example",
        "https://googleapis.com.evil.example",
        "https://evilgoogleapis.com",
        "evil.example:443",
        "http://127.0.0.1:8085",
        "http://localhost",
        "https://169.254.169.254",
    ],
)
def test_a_token_is_sent_to_google_only(host: str) -> None:
    with pytest.raises(InvalidRequestError, match="no token was sent to it"):
        open_account(settings(keyfile_dict=USER, host=host))


@pytest.mark.parametrize(
    "host",
    ["", "https://earthengine.mtls.googleapis.com", "earthengine-highvolume.googleapis.com", "https://a.b.example"],
)
def test_a_token_is_sent_to_hosts_that_the_deployment_allows(host: str) -> None:
    account = open_account(settings(Trust(("a.b.example",)), keyfile_dict=USER, host=host))

    assert account.base_url.startswith("https://")


def test_a_token_is_sent_only_in_its_own_universe() -> None:
    credentials = Credentials("t", universe_domain="a-cloud.example")

    check_token_may_go_to(endpoint_of("https://earthengine.a-cloud.example"), credentials, Trust())
    with pytest.raises(InvalidRequestError):
        check_token_may_go_to(endpoint_of("https://earthengine.b-cloud.example"), credentials, Trust())


@pytest.mark.parametrize("field", ["keyfile_dict", "credential_config_file"])
@pytest.mark.parametrize("kind", ["external_account", "external_account_authorized_user", "gdch_service_account", "x"])
def test_credentials_that_read_files_or_ask_servers_are_refused_in_a_connection(field: str, kind: str) -> None:
    info = {**FEDERATION, "type": kind}

    with pytest.raises(CredentialsError, match="taken from files only") as caught:
        open_account(settings(**{field: json.dumps(info)}))

    assert "/var/run/token" not in str(caught.value)


def test_federation_is_accepted_from_a_file_or_if_the_deployment_allows_it(tmp_path: Path) -> None:
    path = tmp_path / "federation.json"
    path.write_text(json.dumps(FEDERATION))

    open_account(settings(key_path=str(path)))
    open_account(settings(Trust(external_accounts=True), keyfile_dict=FEDERATION))


@pytest.mark.parametrize("name", ["token_url", "token_info_url", "service_account_impersonation_url"])
@pytest.mark.parametrize(
    "url", ["https://evil.example/token", "http://sts.googleapis.com/v1/token", "x", "http://[::1"]
)
def test_federation_with_an_address_that_is_not_googles_is_refused(name: str, url: str) -> None:
    trust = Trust(external_accounts=True)

    with pytest.raises(
        CredentialsError, match=f"The {name} of the connection's keyfile_dict is not Google's"
    ) as caught:
        open_account(settings(trust, keyfile_dict={**FEDERATION, name: url}))

    assert "evil" not in str(caught.value)


def test_a_key_sends_its_signature_to_google_only() -> None:
    key = {
        "type": "service_account",
        "token_uri": "http://internal.example/",
        "client_email": "a@b",
        "private_key": "k",
    }

    with pytest.raises(CredentialsError, match="token_uri"):
        open_account(settings(keyfile_dict=key))


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            RefreshError("invalid_grant: Invalid JWT Signature.", {"error": "invalid_grant"}),
            "RefreshError: invalid_grant",
        ),
        (RefreshError("('inside', 'of a server')", "inside"), "RefreshError"),
        (TransportError(ConnectionRefusedError(111, "Connection refused")), "TransportError: Connection refused"),
    ],
)
def test_token_servers_response_is_not_shown(error: Exception, shown: str) -> None:
    reason = no_token(error).reason

    assert reason == f"could not get an access token: {shown}"


def test_empty_connection_uses_the_machines_own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "adc.json").write_text(json.dumps(USER))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "adc.json"))

    assert open_account(ConnectionSettings(project="p")).project == "p"
    with pytest.raises(EarthEngineError, match="no token was sent to it"):
        open_account(ConnectionSettings(project="p", host="https://evil.example"))


def test_address_where_google_auth_looks_up_an_account_is_googles(tmp_path: Path) -> None:
    """With regional access boundaries turned on, google-auth sends the token there, without our check."""
    (tmp_path / "federation.json").write_text(json.dumps(FEDERATION))
    impersonating = settings(keyfile_dict=USER, impersonation_chain="ee@p.iam.gserviceaccount.com")
    for given in (impersonating, settings(key_path=str(tmp_path / "federation.json"))):
        credentials: Any = open_account(given).credentials
        if not hasattr(credentials, "_build_regional_access_boundary_lookup_url"):
            pytest.skip("google-auth has no regional access boundaries yet")
        address = endpoint_of(urlsplit(credentials._build_regional_access_boundary_lookup_url()).netloc)

        check_token_may_go_to(address, credentials, Trust())
