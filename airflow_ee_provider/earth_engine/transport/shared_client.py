"""Share one session, token, rate limiter and poller among all callers of an account in an event loop."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.transport.drivers import in_background, run_async
from airflow_ee_provider.earth_engine.transport.shared_poller import SharedPoller
from airflow_ee_provider.earth_engine.transport.transports import AiohttpTransport, aiohttp_session

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

    import aiohttp
    from google.auth.credentials import Credentials

    from airflow_ee_provider.earth_engine.auth.credentials import Account
    from airflow_ee_provider.earth_engine.protocol.effects import Flow
    from airflow_ee_provider.earth_engine.transport.drivers import Log, T

LOG = logging.getLogger(__name__)

#: How many waiting users begin at the same time when a client is open, and the seconds until the next ones begin. A
#: triggerer starts thousands of triggers while the first one opens the client; together, they would block the loop.
AT_A_TIME, PAUSE = 100, 0.01


class Client:
    """Carries out flows for an account."""

    def __init__(
        self,
        account: Account,
        session: aiohttp.ClientSession,
        open_account: Callable[..., Coroutine[Any, Any, Account]],
    ) -> None:
        self.account = account
        self._session = session
        self._open_account = open_account
        self._transport = AiohttpTransport(session, account.base_url, account.credentials, self._renew)
        self._poller = SharedPoller(self._transport)

    def run(self, flow: Flow[T], log: Log) -> Coroutine[Any, Any, T]:
        """Drive a flow to its result."""
        return run_async(flow, self._transport, log, self._poller.read)

    async def _renew(self) -> Credentials | None:
        """Read the connection again, and return its present credentials; None if it cannot be read."""
        try:
            # In the background: Airflow 3.1's triggerer crashes if a call to it is cancelled before its answer.
            self.account = await asyncio.shield(in_background(self._open_account(again=True)))
        except Exception as error:  # noqa: BLE001 (the caller raises the error of the refused request)
            LOG.warning(
                "Earth Engine refused the credentials, and the connection could not be read again for new ones: %s",
                error,
            )
            return None
        return self.account.credentials

    async def close(self) -> None:
        """Stop polling, and close the session."""
        self._poller.close()
        await self._session.close()


@dataclass(eq=False)
class _Shared:
    where: Hashable
    client: asyncio.Task[Client]
    users: int = 0
    #: How many users have waited until the client was open.
    waited: int = 0


_CLIENTS: dict[Hashable, _Shared] = {}


class SharedClient:
    """One user of a client that all users with the same key share. The first opens it, the last closes it.

    It is an asynchronous context manager, but not a generator, since a triggerer has one for each of its triggers.

    :param key: Identifies the account.
    :param open_account: Reads the connection without blocking the event loop; with ``again``, not from a cache.
    """

    __slots__ = ("_opening", "_shared")

    def __init__(self, key: Hashable, open_account: Callable[..., Coroutine[Any, Any, Account]]) -> None:
        #: The arguments, until `enter` uses them. Then they are dropped: a triggerer would keep them for each trigger.
        self._opening: tuple[Hashable, Callable[..., Coroutine[Any, Any, Account]]] | None = (key, open_account)
        self._shared: _Shared | None = None

    async def enter(self) -> Client:
        """Open the client if it is not open yet, and return it.

        :raises RuntimeError: If it was entered before.
        """
        if self._opening is None:
            raise RuntimeError("A SharedClient is entered once.")
        (key, open_account), self._opening = self._opening, None
        where = (asyncio.get_running_loop(), key)
        shared = _CLIENTS.get(where)
        if shared is None:
            # In the background: the first user may be cancelled while others still need the client.
            shared = _CLIENTS[where] = _Shared(where, in_background(_open(open_account)))
        shared.users += 1
        self._shared = shared
        try:
            if shared.client.done():
                return shared.client.result()
            shared.waited += 1
            place = shared.waited // AT_A_TIME
            client = await asyncio.shield(shared.client)
            await asyncio.sleep(place * PAUSE)
        except BaseException:
            await self.leave()
            raise
        return client

    async def leave(self, *_: object) -> None:
        """Stop using the client. Does nothing if it is not in use."""
        shared, self._shared = self._shared, None
        if shared is None:
            return
        shared.users -= 1
        if not shared.users:
            del _CLIENTS[shared.where]
            await asyncio.shield(in_background(_close(shared.client)))

    __aenter__, __aexit__ = enter, leave


async def _open(open_account: Callable[..., Coroutine[Any, Any, Account]]) -> Client:
    return Client(await open_account(), await aiohttp_session(), open_account)


async def _close(opening: asyncio.Task[Client]) -> None:
    await asyncio.wait([opening])
    if not opening.cancelled() and opening.exception() is None:
        await opening.result().close()
