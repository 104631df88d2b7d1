"""HTTP sessions: which certificates they trust and present. They read no ``netrc`` file."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.model.errors import CredentialsError, EarthEngineError
from airflow_ee_provider.earth_engine.model.limits import CONCURRENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession


def certificates() -> str:
    """Return the file or folder of the certificates to trust: the same for workers and for the triggerer.

    :raises EarthEngineError: If a variable names a path that does not exist.
    """
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        if found := os.environ.get(name):
            if Path(found).exists():
                return found
            raise EarthEngineError(
                f"The environment variable {name} names certificates that do not exist: {found!r}.",
                remedy="Correct the path, or unset the variable.",
            )
    import certifi

    return certifi.where()


def shows_a_certificate() -> bool:
    """Whether this machine presents a client certificate (mTLS), by google-auth's rule.

    From 2.43 on, google-auth enables mTLS without the variable if a workload's certificate is configured. Versions
    before 2.47 do not find the certificate of some configurations.
    """
    from google.auth.transport import mtls

    variable = os.environ.get("GOOGLE_API_USE_CLIENT_CERTIFICATE", "")
    if not hasattr(mtls, "should_use_client_cert"):
        return variable.lower() == "true"
    return bool(mtls.should_use_client_cert() and (variable or mtls.has_default_client_cert_source()))


def tls_context() -> ssl.SSLContext:
    """Return a TLS context that trusts the `certificates`, and presents this machine's client certificate, if any.

    :raises EarthEngineError: If a certificate does not exist or cannot be used.
    """
    where = certificates()
    is_folder = Path(where).is_dir()
    context = ssl.create_default_context(cafile=None if is_folder else where, capath=where if is_folder else None)
    if shows_a_certificate():
        _load_own_certificate(context)
    return context


def _load_own_certificate(context: ssl.SSLContext) -> None:
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.mtls import default_client_cert_source

    try:
        certificate, key = default_client_cert_source()()
        with tempfile.NamedTemporaryFile("wb", prefix="airflow-ee-") as file:  # ssl reads files only.
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(file.name)
    except (GoogleAuthError, OSError, ValueError) as error:  # The text is not shown: it may contain a key.
        raise CredentialsError(
            f"This machine's client certificate cannot be used: {type(error).__name__}.",
            remedy="Check what GOOGLE_API_CERTIFICATE_CONFIG names, or set GOOGLE_API_USE_CLIENT_CERTIFICATE=false.",
        ) from None


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment defines for an address, by the rules of requests; None if there is none."""
    from requests.utils import get_environ_proxies, select_proxy

    found: str | None = select_proxy(url, get_environ_proxies(url))
    return found


def requests_session() -> requests.Session:
    """Open a session that trusts the `certificates`, and takes no password from a ``netrc`` file."""
    import requests

    session = requests.Session()
    _secure(session)
    return session


def token_session() -> requests.Session:
    """Open a session for token servers, with limits for the time and the size of a response."""
    from airflow_ee_provider.earth_engine.auth.bounded_http import SmallAnswersAdapter

    session = requests_session()
    session.mount("http://", SmallAnswersAdapter())
    session.mount("https://", SmallAnswersAdapter(_own_context()))
    return session


def _secure(session: requests.Session) -> None:
    session.verify = certificates()
    session.auth = _unchanged
    if context := _own_context():
        from airflow_ee_provider.earth_engine.auth.bounded_http import TlsAdapter

        session.mount("https://", TlsAdapter(context, pool_maxsize=CONCURRENT))


def _own_context() -> ssl.SSLContext | None:
    """Return the TLS context that presents this machine's client certificate; None if it presents none."""
    return tls_context() if shows_a_certificate() else None


def _unchanged(request: Any) -> Any:
    """Return the request unchanged. Without an ``auth`` function, requests would read a ``netrc`` file."""
    return request


def authorized_session(credentials: Credentials, endpoint: str) -> AuthorizedSession:
    """Open a session that authorizes its requests."""
    from google.auth.transport.requests import AuthorizedSession, Request

    session = AuthorizedSession(credentials, auth_request=Request(token_session()))
    _secure(session)
    _widen(session, endpoint)
    return session


def session_with_headers(headers: Mapping[str, str], endpoint: str) -> requests.Session:
    """Open a session that authorizes its requests with the given headers, instead of credentials."""
    session = requests_session()
    session.headers.update(headers)
    _widen(session, endpoint)
    return session


def _widen(session: requests.Session, endpoint: str) -> None:
    """Allow as many connections to the endpoint as the API allows requests at the same time."""
    from airflow_ee_provider.earth_engine.auth.bounded_http import TlsAdapter

    session.mount(endpoint, TlsAdapter(_own_context(), pool_maxsize=CONCURRENT))
