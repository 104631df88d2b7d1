"""Hooks for Earth Engine's long-running operations; the only place that reads Airflow's connections."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from functools import cached_property, wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, conf

from airflow_ee_provider.base.airflow_versions import stats_if_collected
from airflow_ee_provider.earth_engine.auth.credentials import Account, open_account
from airflow_ee_provider.earth_engine.auth.settings import ConnectionSettings, comma_separated, with_overrides
from airflow_ee_provider.earth_engine.auth.trust import Trust
from airflow_ee_provider.earth_engine.model import metrics
from airflow_ee_provider.earth_engine.model.errors import ConnectionMissingError, EarthEngineError
from airflow_ee_provider.earth_engine.protocol import api
from airflow_ee_provider.hooks import connection_form

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Sequence

    from google.auth.transport.requests import AuthorizedSession

    from airflow_ee_provider.earth_engine.protocol.effects import Flow

metrics.find_collector = stats_if_collected

#: The section of Airflow's configuration; see `get_provider_info`.
CONFIG_SECTION = "earth_engine"

P = ParamSpec("P")
T = TypeVar("T")


class _ConnectionHook(BaseHook):
    """What both hooks share: the connection, and the account that it opens."""

    conn_name_attr = "earth_engine_conn_id"
    default_conn_name = "earth_engine_default"
    conn_type = connection_form.CONNECTION_TYPE
    hook_name = connection_form.HOOK_NAME

    def __init__(
        self,
        earth_engine_conn_id: str | None = default_conn_name,
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.earth_engine_conn_id = earth_engine_conn_id
        self.project_id = project_id
        self.impersonation_chain = impersonation_chain

    @cached_property
    def account(self) -> Account:
        """Who calls Earth Engine, and where; read from the connection once, so that a kill need not read it again.

        :raises CredentialsError: if there are no usable credentials.
        """
        return self._open()

    def _open(self) -> Account:
        return open_account(with_overrides(self._settings(), self.project_id, self.impersonation_chain))

    def _settings(self) -> ConnectionSettings:
        if not self.earth_engine_conn_id:
            return ConnectionSettings(trust=_trust())
        try:
            connection = self.get_connection(self.earth_engine_conn_id)
        except AirflowNotFoundException:
            # Airflow says so as well where a secrets backend could not be asked: nobody else's account may step in.
            raise ConnectionMissingError(
                f"The connection {self.earth_engine_conn_id!r} is not defined, or could not be read.",
                remedy="Add a connection of the type Google Earth Engine; an empty one stands for the machine's "
                "Application Default Credentials, and so does earth_engine_conn_id=None.",
            ) from None
        return replace(ConnectionSettings.from_extra(connection.extra_dejson, _host(connection)), trust=_trust())


def _trust() -> Trust:
    """Read what the deployment's own configuration allows."""
    return Trust(
        hosts=comma_separated(conf.get(CONFIG_SECTION, "allowed_hosts", fallback="")),
        external_accounts=conf.getboolean(CONFIG_SECTION, "allow_external_accounts", fallback=False),
    )


def _host(connection: Any) -> str | None:
    if connection.conn_type == connection_form.CONNECTION_TYPE and connection.host:
        scheme = "" if "://" in connection.host or not connection.schema else f"{connection.schema}://"
        return f"{scheme}{connection.host}" + (f":{connection.port}" if connection.port else "")
    return None


def _blocking(call: Callable[Concatenate[Account, P], Flow[T]]) -> Callable[Concatenate[EarthEngineHook, P], T]:
    """Make a method of the synchronous hook."""

    @wraps(call)
    def method(hook: EarthEngineHook, /, *args: P.args, **kwargs: P.kwargs) -> T:
        from airflow_ee_provider.earth_engine.transport.drivers import run
        from airflow_ee_provider.earth_engine.transport.transports import RequestsTransport

        account = hook.account
        # A session for each call: on_kill runs in a signal handler, amid another request of the same hook.
        with hook.get_conn() as session:
            transport = RequestsTransport(session, account.base_url, hook.renew)
            return run(call(account, *args, **kwargs), transport, hook.log)

    return _with_signature_of_a_method(method, call)


def _awaited(
    call: Callable[Concatenate[Account, P], Flow[T]],
) -> Callable[Concatenate[EarthEngineAsyncHook, P], Coroutine[Any, Any, T]]:
    """Make a method of the asynchronous hook."""

    @wraps(call)
    async def method(hook: EarthEngineAsyncHook, /, *args: P.args, **kwargs: P.kwargs) -> T:
        from airflow_ee_provider.earth_engine.transport.shared_client import shared_client

        async with shared_client(hook.key, hook.open) as client:
            return await client.run(call(client.account, *args, **kwargs), hook.log)

    return _with_signature_of_a_method(method, call)


def _with_signature_of_a_method(method: T, call: Callable[..., Any]) -> T:
    """Let ``help()`` show what a user passes and gets: ``self`` for the account, and a flow's result for the flow."""
    own = signature(call)
    first, *others = own.parameters.values()
    result = re.sub(r"^Flow\[(.*)\]$", r"\1", str(own.return_annotation))
    method.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[first.replace(name="self", annotation=Parameter.empty), *others], return_annotation=result
    )
    return method


class EarthEngineHook(_ConnectionHook):
    """
    Talk to Earth Engine's ``projects.operations`` with requests and google-auth.

    Every method raises `EarthEngineError`: a permanent one at once, a `TransientError` after its retries.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.operations

    :param earth_engine_conn_id: the connection, of the type ``earth_engine`` or ``google_cloud_platform``; None, or an
        empty connection, stands for the machine's Application Default Credentials.
    :param project_id: the Cloud project, in place of the connection's.
    :param impersonation_chain: service accounts (a list, or a text with commas), the last of which calls.
    """

    get_operation = _blocking(api.get_operation)
    list_operations = _blocking(api.list_operations)
    list_stale_operations = _blocking(api.list_stale_operations)
    cancel_operation = _blocking(api.cancel_operation)
    cancel_operations = _blocking(api.cancel_operations)
    confirm_cancels = _blocking(api.confirm_cancels)
    poll_operations = _blocking(api.poll_operations)
    wait_for_operation = _blocking(api.wait_for_operation)
    wait_for_operations = _blocking(api.wait_for_operations)
    delete_operation = _blocking(api.delete_operation)
    start_export = _blocking(api.start_export)
    start_once = _blocking(api.start_once)
    start_all = _blocking(api.start_all)
    cancel_what_is_left = _blocking(api.cancel_what_is_left)
    read_operations = _blocking(api.read_operations)
    wait_for_room = _blocking(api.wait_for_room)
    _test_connection = _blocking(api.test_connection)

    def get_conn(self) -> AuthorizedSession:
        """Return a new session that authorises its requests."""
        from airflow_ee_provider.earth_engine.auth.sessions import authorized_session

        return authorized_session(self.account.credentials, self.account.endpoint)

    #: Whether Airflow may be asked: not in the signal handler that a kill runs in.
    may_ask_airflow = True

    def renew(self) -> AuthorizedSession | None:
        """Read the connection again, because its credentials are not accepted any more; None if that cannot be."""
        if not self.may_ask_airflow:
            return None
        try:
            account = self._open()
        except Exception as error:  # noqa: BLE001 (the answer that was refused says what is wrong)
            self.log.warning("The connection could not be read again: %s", error)
            return None
        self.account = account
        return self.get_conn()

    @property
    def is_ready(self) -> bool:
        """Whether the connection is read, so that nothing has to be asked of Airflow."""
        return "account" in self.__dict__

    def make_ready(self) -> None:
        """Read the connection and import what a request needs: a kill, in a signal handler, must wait for neither."""
        from airflow_ee_provider.earth_engine.transport import drivers, transports  # noqa: F401

        self.get_conn().close()

    def test_connection(self) -> tuple[bool, str]:
        """Ask Earth Engine for one operation, and say in one sentence what is wrong and what to do."""
        try:
            return True, self._test_connection()
        except EarthEngineError as error:
            return False, str(error)

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's own fields, for Airflow before 3.2."""
        return connection_form.connection_form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return what becomes of the form's standard fields, for Airflow before 3.2."""
        return connection_form.ui_field_behaviour()


class EarthEngineAsyncHook(_ConnectionHook):
    """
    `EarthEngineHook`'s methods as coroutines, for the triggerer's event loop, with aiohttp; none of them blocks it.

    Hooks of the same connection, project and impersonation chain that are in use at the same time share one HTTP
    session, one token, one rate limiter and one poller.

    :param earth_engine_conn_id: the connection; see `EarthEngineHook`.
    :param project_id: the Cloud project, in place of the connection's.
    :param impersonation_chain: service accounts, the last of which calls.
    """

    get_operation = _awaited(api.get_operation)
    list_operations = _awaited(api.list_operations)
    list_stale_operations = _awaited(api.list_stale_operations)
    cancel_operation = _awaited(api.cancel_operation)
    cancel_operations = _awaited(api.cancel_operations)
    confirm_cancels = _awaited(api.confirm_cancels)
    poll_operations = _awaited(api.poll_operations)
    wait_for_operation = _awaited(api.wait_for_operation)
    wait_for_operations = _awaited(api.wait_for_operations)
    delete_operation = _awaited(api.delete_operation)
    start_export = _awaited(api.start_export)
    start_once = _awaited(api.start_once)
    start_all = _awaited(api.start_all)
    cancel_what_is_left = _awaited(api.cancel_what_is_left)
    read_operations = _awaited(api.read_operations)
    wait_for_room = _awaited(api.wait_for_room)

    @property
    def key(self) -> Hashable:
        """What hooks that call as the same account have in common."""
        return self.earth_engine_conn_id, self.project_id, comma_separated(self.impersonation_chain)

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

        # asgiref's thread, not asyncio's: from it, Airflow's own calls find their way back to the triggerer's loop.
        # In the background, because Airflow 3.1's triggerer dies of a call to it that is cancelled half-way.
        account: Account = await asyncio.shield(in_background(sync_to_async(load)()))
        return account
