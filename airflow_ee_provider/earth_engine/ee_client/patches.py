"""Patches of the official client, which are active while a function runs."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.ee_client.intercepted import InterceptingTransport, InterceptingWrapper
from airflow_ee_provider.earth_engine.model.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ee_provider.earth_engine.auth.credentials import Account
    from airflow_ee_provider.earth_engine.ee_client.session import EeSession

#: Seconds for the list of deprecations that the client fetches from another host, without a limit of its own.
DEPRECATIONS_TIMEOUT = 10.0

#: Marks an attribute that the client does not have.
_ABSENT = object()

#: The API's collections whose methods start operations.
_COLLECTIONS = ("image", "table", "video", "map", "classifier")


@contextmanager
def limited_deprecations() -> Iterator[None]:
    """Limit the client's request for its list of deprecations. None of the function's code runs in the block."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DEPRECATIONS_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _initialize_again(
    ee: Any, client: EeSession, account: Account, initialize: Callable[..., None]
) -> Callable[..., None]:
    """Return the replacement of ``ee.Initialize`` for a client that is already initialized."""

    @wraps(initialize)
    def initialize_again(credentials: Any = "persistent", *args: Any, **kwargs: Any) -> None:
        if credentials not in ("persistent", None):
            client.tell_once("The function initialises ee with credentials of its own; this task cancels with its own.")
            kwargs.setdefault("http_transport", InterceptingTransport(client))
            initialize(credentials, *args, **kwargs)
            return
        client.tell_once(
            "ee is initialised from the Airflow connection already; the function's ee.Initialize() keeps it."
        )
        project, url = kwargs.get("project"), str(kwargs.get("url") or kwargs.get("opt_url") or "".join(args[:1]))
        if client.uses(url):
            how = {"url": url, "project": project or client.project, "http_transport": InterceptingTransport(client)}
            with limited_deprecations():
                initialize(account.credentials, **how)
        elif project:
            ee.data.setCloudApiUserProject(str(project))

    return initialize_again


def _authenticate(*args: Any, **kwargs: Any) -> bool:
    """Return True, as ``ee.Authenticate`` does if credentials exist; refuse ``force``."""
    if not (kwargs.get("force") or args[5:6] == (True,)):
        return True
    raise InvalidRequestError(
        "ee.Authenticate(force=True) waits for a person with a browser, and a task has none.",
        remedy="Omit force: ee is already initialized from the Airflow connection.",
    )


def _built_once(ee: Any) -> list[tuple[Any, str, Any]]:
    """Return patches that cache the client's objects for the API's methods. Building them takes half of a start's time.

    A version of the client that does not have these functions is not patched.
    """
    get, state = (getattr(ee.data, name, None) for name in ("_get_cloud_projects", "_get_state"))
    if not (get and state):
        return []

    @lru_cache(maxsize=1)  # The client creates another resource when it is initialized again.
    def projects_of(resource: Any) -> Any:
        projects = resource.projects()
        for name in _COLLECTIONS:
            if build := getattr(projects, name, None):
                setattr(projects, name, lru_cache(maxsize=1)(build))
        return projects

    @wraps(get)
    def projects() -> Any:
        resource = getattr(state(), "cloud_api_resource", None)
        return projects_of(resource) if resource else get()

    return [(ee.data, "_get_cloud_projects", projects)]


@contextmanager
def patched(ee: Any, client: EeSession, account: Account) -> Iterator[Callable[..., None]]:
    """Patch the client for the block, so that it keeps the account and the intercepting transport.

    :return: The client's original ``Initialize``.
    """
    execute, initialize = ee.data._execute_cloud_call, ee.Initialize  # noqa: SLF001 (it has no public name)

    @wraps(execute)
    def watched_call(call: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(getattr(call.http, "http", call.http), (InterceptingTransport, InterceptingWrapper)):
            call.http = InterceptingWrapper(call.http, client)
        return execute(call, *args, **kwargs)

    changes = [
        (ee.data, "_execute_cloud_call", watched_call),
        (ee.data, "get_persistent_credentials", lambda: account.credentials),
        (ee, "Initialize", _initialize_again(ee, client, account, initialize)),
        (ee, "Authenticate", _authenticate),
        *_built_once(ee),
    ]
    if client.registering:
        changes += client.registering.changes(ee)
    before = [(owner, name, vars(owner).get(name, _ABSENT)) for owner, name, _ in changes]
    for owner, name, replacement in changes:
        setattr(owner, name, replacement)
    try:
        yield initialize
    finally:
        for owner, name, replaced in before:
            if replaced is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, replaced)
