"""Hooks for Earth Engine's long-running operations."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_ee_provider.base.airflow_versions import connection_of_server, stats_if_collected
from airflow_ee_provider.earth_engine.auth.settings import comma_separated
from airflow_ee_provider.earth_engine.model import metrics
from airflow_ee_provider.earth_engine.model.errors import CredentialsError, EarthEngineError
from airflow_ee_provider.earth_engine.protocol.api_methods import list_operations
from airflow_ee_provider.hooks import connection_form
from airflow_ee_provider.hooks.methods import Methods

if TYPE_CHECKING:
    from google.auth.transport.requests import AuthorizedSession

    from airflow_ee_provider.earth_engine.auth.credentials import Account
    from airflow_ee_provider.earth_engine.protocol.effects import Flow
    from airflow_ee_provider.earth_engine.transport.shared_client import SharedClient


metrics.find_collector = stats_if_collected

T = TypeVar("T")

#: Seconds after which new hooks share a new client, so that a changed connection takes effect.
MAX_AGE = 3600.0


class EarthEngineHook(Methods):
    """
    Reads, lists, cancels and starts Earth Engine operations, with requests and google-auth.

    Each method raises an `EarthEngineError`: at once if it is permanent, and after retries if it is transient.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.operations

    :param earth_engine_conn_id: The connection, of the type ``earth_engine`` or ``google_cloud_platform``; None, or an
        empty connection, for Application Default Credentials.
    :param project_id: The Cloud project. By default the connection's project.
    :param impersonation_chain: One service account to impersonate, or a chain of them (a list, or a comma-separated
        text); the last one calls Earth Engine.
    """

    def run(self, flow: Flow[T]) -> T:
        """Run a flow, with a new session.

        The session is new because `on_kill` runs in a signal handler, possibly during another request of this hook.
        """
        from airflow_ee_provider.earth_engine.transport.drivers import run
        from airflow_ee_provider.earth_engine.transport.transports import RequestsTransport

        with self.get_conn() as session:
            return run(flow, RequestsTransport(session, self.account.base_url, self.renew), self.log)

    def get_conn(self) -> AuthorizedSession:
        """Return a new session that authorises its requests."""
        from airflow_ee_provider.earth_engine.auth.sessions import authorized_session

        return authorized_session(self.account.credentials, self.account.endpoint)

    #: Whether the hook may ask Airflow for the connection: not in the signal handler of a kill.
    may_reload_connection = True

    def renew(self) -> AuthorizedSession | None:
        """Read the connection again after Earth Engine refused its credentials; None if that is impossible."""
        if not self.may_reload_connection:
            return None
        try:
            account = self._open()
        except Exception as error:  # noqa: BLE001 (the refused answer has the reason)
            self.log.warning(
                "Earth Engine refused the credentials, and the connection could not be read again for new ones: %s",
                error,
            )
            return None
        self.account = account
        return self.get_conn()

    @property
    def is_ready(self) -> bool:
        """Whether the connection is read already."""
        return "account" in self.__dict__

    def preload(self) -> None:
        """Read the connection and import the request code, so that a kill, in a signal handler, need not do it."""
        from airflow_ee_provider.earth_engine.transport import drivers, transports  # noqa: F401

        self.get_conn().close()

    def test_connection(self) -> tuple[bool, str]:
        """Read one operation. Return whether that worked, and a message, with the remedy if there was an error."""
        try:
            self.run(list_operations(self.account.project, page_size=1, most=1))
        except EarthEngineError as error:
            return False, self.describe(error)
        caller = getattr(self.account.credentials, "service_account_email", None)
        return True, f"Earth Engine answers for project {self.account.project}{f' to {caller}' if caller else ''}."

    def describe(self, error: EarthEngineError) -> str:
        """Return an error's text for users who may edit connections or see the page.

        An anonymous connection can name any port of this machine, so the text omits the answer of a server there.
        """
        is_own = isinstance(error, CredentialsError) and not error.http_status
        if is_own or not (self.is_ready and self.account.is_anonymous):
            return str(error)
        answered = (
            f"answered with HTTP {error.http_status}" if error.http_status else "gave no answer of Earth Engine's"
        )
        return f"The server that this anonymous connection names {answered}. {error.remedy}".rstrip()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's own fields, for Airflow before 3.2."""
        return connection_form.connection_form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form shows the standard fields, for Airflow before 3.2."""
        return connection_form.ui_field_behaviour()


class EarthEngineAsyncHook(Methods):
    """
    The methods of `EarthEngineHook` as coroutines that do not block the event loop, with aiohttp.

    Hooks with the same connection, project and impersonation chain share one HTTP session, one token, one rate limiter
    and one poller while they are in use.

    :param earth_engine_conn_id: The connection; see `EarthEngineHook`.
    :param project_id: The Cloud project. By default the connection's project.
    :param impersonation_chain: One service account to impersonate, or a chain of them; the last one calls Earth Engine.
    """

    is_awaited = True

    #: The hour in which this hook was first used.
    _hour: float | None = None

    def client(self) -> SharedClient:
        """Use the client that hooks of the same account share; it closes after its last user.

        They share it if they were first used in the same hour.
        """
        from airflow_ee_provider.earth_engine.transport.shared_client import SharedClient

        if self._hour is None:
            self._hour = time.monotonic() // MAX_AGE
        account = (self.earth_engine_conn_id, self.project_id, comma_separated(self.impersonation_chain))
        return SharedClient((*account, self._hour), self.open)

    async def open(self, *, again: bool = False) -> Account:
        """Read the connection and load the credentials, off the event loop; once, unless ``again``."""
        if "account" in self.__dict__ and not again:
            return self.account
        from asgiref.sync import sync_to_async

        from airflow_ee_provider.earth_engine.transport.drivers import in_background

        def load() -> Account:
            import aiohttp  # noqa: F401 (a third of a second that the event loop must not wait for)

            self.account = self._open()
            return self.account

        # In asgiref's thread, not asyncio's, so that Airflow's own calls from it can reach the triggerer's event loop.
        # In the background, because Airflow 3.1's triggerer crashes if such a call is cancelled before its answer.
        account: Account = await asyncio.shield(in_background(sync_to_async(load)()))
        return account


class EarthEngineServerHook(EarthEngineHook):
    """`EarthEngineHook` for the page, the commands and the collector: they read the database, and run in no task."""

    @classmethod
    def get_connection(cls, conn_id: str) -> Any:
        """Return a connection of any team, or of none."""
        return connection_of_server(conn_id)
