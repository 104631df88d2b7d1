"""The address of the API server, from a connection's fields and from a connection's URI."""

from __future__ import annotations

import pytest
from airflow.models.connection import Connection

from airflow_ee_provider.earth_engine.model.errors import InvalidRequestError
from airflow_ee_provider.tracking.api_client import address_of

HTTP = {"conn_id": "airflow_api", "conn_type": "http"}

FORMS = {
    "whole address": ({"host": "https://a.example:8443/base/"}, "https://a.example:8443/base"),
    "host and port": ({"host": "a.example", "port": 8080}, "http://a.example:8080"),
    "host, port, schema": ({"host": "a.example", "port": 8443, "schema": "https"}, "https://a.example:8443"),
    "address, and a port": ({"host": "https://a.example", "port": 8443}, "https://a.example:8443"),
    "path and port apart": ({"host": "http://a.example/base", "port": 8080}, "http://a.example:8080/base"),
    "path, no scheme": ({"host": "a.example/base", "port": 8080, "schema": "https"}, "https://a.example:8080/base"),
    "port in the host": ({"host": "a.example:8080"}, "http://a.example:8080"),
    "the same port twice": ({"host": "http://a.example:8080", "port": 8080}, "http://a.example:8080"),
    "host and schema": ({"host": "a.example", "schema": "HTTPS"}, "https://a.example"),
    "an IPv6 address": ({"host": "::1", "port": 8080}, "http://[::1]:8080"),
    "a path as the schema": ({"host": "a.example", "port": 8080, "schema": "airflow"}, "http://a.example:8080/airflow"),
    "host alone, no password": ({"host": "localhost"}, "http://localhost"),
}

URIS = {
    "http://user:pw@a.example:8080": "http://a.example:8080",
    "http://user:pw@a.example:8080/airflow": "http://a.example:8080/airflow",
    "http://user:pw@a.example:8443/https": "https://a.example:8443",
    "http://user:pw@https%3A%2F%2Fa.example%3A8443%2Fbase": "https://a.example:8443/base",
}


@pytest.mark.parametrize("form", FORMS)
def test_fields(form: str) -> None:
    fields, address = FORMS[form]

    assert address_of(Connection(**HTTP, **fields)) == address


@pytest.mark.parametrize("uri", URIS)
def test_uris(uri: str) -> None:
    assert address_of(Connection(conn_id="airflow_api", uri=uri)) == URIS[uri]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"host": "a.example", "login": "user", "password": "pw"},
        {"host": "http://a.example", "schema": "https"},
        {"host": "http://a.example:8080", "port": 9090},
        {"host": "ftp://a.example"},
        {"host": "http://a.example:port"},
        {"host": "http://"},
    ],
)
def test_missing_or_ambiguous_address_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError, match="'airflow_api' to Airflow's API server has"):
        address_of(Connection(**HTTP, **fields))
