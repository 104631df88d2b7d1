"""The base of both hooks: it reads the Airflow connection, opens the account, and binds the methods.

A method is written once, as a flow; `hook_method` makes it blocking for one hook, and a coroutine for the other.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property, wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, conf

from airflow_ee_provider.base import parameters
from airflow_ee_provider.earth_engine.auth.credentials import Account, open_account
from airflow_ee_provider.earth_engine.auth.settings import ConnectionSettings, comma_separated, with_overrides
from airflow_ee_provider.earth_engine.auth.trust import Trust
from airflow_ee_provider.earth_engine.model.errors import ConnectionMissingError, CredentialsError
from airflow_ee_provider.hooks import connection_form

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from airflow_ee_provider.earth_engine.protocol.effects import Flow
    from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook, EarthEngineHook

P = ParamSpec("P")
T = TypeVar("T")

#: The section of Airflow's configuration; see `get_provider_info`.
CONFIG_SECTION = "earth_engine"

#: The supported types of connections: that of this provider, and that of Google's provider.
_TYPES = (connection_form.CONNECTION_TYPE, "google_cloud_platform")


class ConnectionHook(BaseHook):
    """A hook that calls Earth Engine with the account of its connection."""

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
        parameters.check(self, parameters.CONNECTION)

    @cached_property
    def account(self) -> Account:
        """The credentials, project and endpoint. A kill need not read the connection, since it is read only once.

        :raises CredentialsError: If there are no usable credentials.
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
            # Airflow also raises it if a secrets backend does not answer. The hook must not use another account then.
            raise ConnectionMissingError(
                f"The connection {self.earth_engine_conn_id!r} is not defined, or could not be read.",
                remedy="Add a connection of the type Google Earth Engine. To use the machine's Application Default "
                "Credentials, leave its fields empty, or set earth_engine_conn_id=None.",
            ) from None
        # Without this check, an empty connection of another type would select the machine's own credentials.
        if connection.conn_type and connection.conn_type not in _TYPES:
            raise CredentialsError(
                f"The connection {self.earth_engine_conn_id!r} is of the type {connection.conn_type!r}.",
                remedy=f"Give one of the type {' or '.join(_TYPES)}.",
            )
        return replace(ConnectionSettings.from_extra(connection.extra_dejson, _host(connection)), trust=_trust())


def _trust() -> Trust:
    """Return the hosts and external accounts that Airflow's configuration allows."""
    return Trust(
        hosts=comma_separated(conf.get(CONFIG_SECTION, "allowed_hosts", fallback="")),
        external_accounts=conf.getboolean(CONFIG_SECTION, "allow_external_accounts", fallback=False),
    )


def _host(connection: Any) -> str | None:
    if connection.conn_type == connection_form.CONNECTION_TYPE and connection.host:
        scheme = "" if "://" in connection.host or not connection.schema else f"{connection.schema}://"
        return f"{scheme}{connection.host}" + (f":{connection.port}" if connection.port else "")
    return None


class hook_method(Generic[P, T]):  # noqa: N801 (a decorator)
    """A method of both hooks: `EarthEngineHook` returns the flow's result, `EarthEngineAsyncHook` a coroutine."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self._blocking, self._awaited = _with_result_of(_blocking(flow)), _with_result_of(_awaited(flow))

    @overload
    def __get__(self, hook: None, owner: type[Any]) -> Callable[..., Any]: ...
    @overload
    def __get__(self, hook: EarthEngineHook, owner: type[Any]) -> Callable[P, T]: ...
    @overload
    def __get__(self, hook: EarthEngineAsyncHook, owner: type[Any]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, hook: Any, owner: type[Any]) -> Any:
        method: Any = self._awaited if owner.is_awaited else self._blocking
        return method.__get__(hook, owner)


def _blocking(flow: Callable[Concatenate[Any, P], Flow[T]]) -> Callable[..., T]:
    @wraps(flow)
    def method(hook: EarthEngineHook, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return hook.run(flow(hook, *args, **kwargs))

    return method


def _awaited(flow: Callable[Concatenate[Any, P], Flow[T]]) -> Callable[..., Coroutine[Any, Any, T]]:
    @wraps(flow)
    async def method(hook: EarthEngineAsyncHook, /, *args: P.args, **kwargs: P.kwargs) -> T:
        async with hook.client() as client:
            hook.account = client.account
            return await client.run(flow(hook, *args, **kwargs), hook.log)

    return method


def _with_result_of(method: T) -> T:
    """Set the signature that ``help()`` and editors show. Its return type is the flow's result, not the flow."""
    own = signature(method)  # type: ignore[arg-type]
    result = re.sub(r"^Flow\[(.*)\]$", r"\1", str(own.return_annotation))
    method.__signature__ = own.replace(return_annotation=result)  # type: ignore[attr-defined]
    return method
