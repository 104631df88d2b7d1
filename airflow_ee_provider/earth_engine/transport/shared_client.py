"""One session, one token, one rate limiter, one poller for all who call as the same account in an event loop."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.transport.drivers import in_background, run_async
from airflow_ee_provider.earth_engine.transport.shared_poller import SharedPoller
from airflow_ee_provider.earth_engine.transport.transports import AiohttpTransport, aiohttp_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Hashable

    import aiohttp
    from google.auth.credentials import Credentials

    from airflow_ee_provider.earth_engine.auth.credentials import Account
    from airflow_ee_provider.earth_engine.protocol.effects import Flow
    from airflow_ee_provider.earth_engine.transport.drivers import Log, T

LOG = logging.getLogger(__name__)


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

    async def run(self, flow: Flow[T], log: Log) -> T:
        """Drive a flow to its result."""
        return await run_async(flow, self._transport, log, self._poller.read)

    async def _renew(self) -> Credentials | None:
        """Return the credentials that the connection has by now, if it can be read."""
        try:
            # In the background: Airflow 3.1's triggerer dies of a call to it that is cancelled half-way.
            self.account = await asyncio.shield(in_background(self._open_account(again=True)))
        except Exception as error:  # noqa: BLE001 (the answer that was refused says what is wrong)
            LOG.warning("The connection could not be read again: %s", error)
            return None
        return self.account.credentials

    async def close(self) -> None:
        """Stop reading, and end the session."""
        self._poller.close()
        await self._session.close()


@dataclass(eq=False)
class _Shared:
    client: asyncio.Task[Client]
    users: int = 0


_CLIENTS: dict[Hashable, _Shared] = {}


@asynccontextmanager
async def shared_client(
    key: Hashable, open_account: Callable[..., Coroutine[Any, Any, Account]]
) -> AsyncIterator[Client]:
    """Use the client that others with the same key use, or open one; the last to leave closes it.

    :param key: of the account.
    :param open_account: reads the connection, and must not block the event loop; with ``again``, another time.
    """
    where = (asyncio.get_running_loop(), key)
    shared = _CLIENTS.get(where)
    if shared is None:
        # In the background: whoever comes first may be cancelled, and the others still want it.
        shared = _CLIENTS[where] = _Shared(in_background(_open(open_account)))
    shared.users += 1
    try:
        yield await asyncio.shield(shared.client)
    finally:
        shared.users -= 1
        if not shared.users:
            del _CLIENTS[where]
            await asyncio.shield(in_background(_close(shared.client)))


async def _open(open_account: Callable[..., Coroutine[Any, Any, Account]]) -> Client:
    return Client(await open_account(), await aiohttp_session(), open_account)


async def _close(opening: asyncio.Task[Client]) -> None:
    await asyncio.wait([opening])
    if not opening.cancelled() and opening.exception() is None:
        await opening.result().close()
