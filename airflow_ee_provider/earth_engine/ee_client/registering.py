"""``batch_starts``: register a function's starts, and start the operations in parallel after the function has returned.

The client's own code builds each request, up to the moment in which it would send it. Some code needs the operations
earlier: it reads a task's id, or lists operations. All registered operations are then started first, and it waits.
"""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager, suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

from airflow_ee_provider.earth_engine.ee_client.answers import Answer, OfStarted, fill, ingestion, operation
from airflow_ee_provider.earth_engine.model.destinations import destination_of
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_ee_provider.earth_engine.protocol.starting import Start

#: Requests whose responses can change when operations start: lists of operations, and requests about assets.
_LIST = re.compile(r".*/projects/[^/?]+/operations(?:\?.*)?")
_ASSET = re.compile(r".*/(?P<name>projects/[^/?]+/assets/[^?:]+)(?::(?P<verb>[A-Za-z]+))?(?:\?.*)?")

#: How often a function needs operations before it returns, until the log reports it.
ANSWERED_OFTEN = 10


class Registry(Protocol):
    """Registers starts, and knows their results."""

    @property
    def registered(self) -> Mapping[str, Start]:
        """All registered starts, whether or not their operations are started, by `Start.key`."""

    @property
    def is_retry(self) -> bool:
        """Whether an earlier try of the task may have started the same operations."""

    def register(self, start: Start) -> None:
        """Register a start, to be carried out when the function has returned or needs the operation."""

    def name_of(self, start: Start) -> str:
        """Return the name of the operation that this process has started or found; empty if there is none yet."""

    def refusal_of(self, start: Start) -> EarthEngineError | None:
        """Return the error of a start that failed; otherwise None."""


class RegisteredError(BaseException):
    """Ends a call of the client whose start is registered. An ``except Exception`` in a library must not catch it."""

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        self.start = start


class Registering:
    """The starts that a function registers, and the client's object for each.

    :param start_all: Starts the registered operations in parallel; returns when each is started or refused.
    """

    def __init__(self, registry: Registry, start_all: Callable[[], None]) -> None:
        self._registry, self._start_all = registry, start_all
        #: By the ``id()`` of a client's task or an `Answer`: this object, and its start.
        self._start_of: dict[int, tuple[Any, Start]] = {}
        self._assets: set[str] = set()
        self._inside = threading.local()
        self._starting = threading.RLock()
        #: How often the function has needed operations before it returned, and how many were started for that.
        self.answered = self.started = 0

    @property
    def is_registering(self) -> bool:
        """Whether this thread is in a call of the client whose start is to be registered."""
        return getattr(self._inside, "is_registering", False)

    @contextmanager
    def _within(self, *, is_registering: bool) -> Iterator[None]:
        """Run the client's own code: its reads of tasks and its requests start no registered operations."""
        before = (self.is_registering, getattr(self._inside, "is_ours", False))
        self._inside.is_registering, self._inside.is_ours = is_registering, True
        try:
            yield
        finally:
            self._inside.is_registering, self._inside.is_ours = before

    def register(self, start: Start) -> RegisteredError:
        """Register a start, and return the exception that ends the client's call.

        :raises EarthEngineError: If no more operations may be started.
        """
        self._registry.register(start)
        if (asset := destination_of(start.body)).startswith("projects/"):
            self._assets.add(asset)
        return RegisteredError(start)

    def start_of(self, thing: object) -> Start | None:
        """Return the registered start of a client's task or an `Answer`; None for any other object."""
        return self._start_of.get(id(thing), (None, None))[1]

    def before_request(self, uri: str) -> None:
        """Start all registered operations if this can change the response to a request."""
        if getattr(self._inside, "is_ours", False) or not self._unstarted():
            return
        asset = _ASSET.fullmatch(uri)
        if _LIST.fullmatch(uri) or (asset and self._is_awaited(unquote(asset["name"]).rstrip("/"), asset["verb"])):
            self._answer()

    def _is_awaited(self, name: str, verb: str | None) -> bool:
        return name in self._assets or (
            verb == "listAssets" and any(asset.startswith(f"{name}/") for asset in self._assets)
        )

    def name_of(self, start: Start) -> str:
        """Return the name of a start's operation. Start all registered operations first if it is not started yet.

        :raises ee.EEException: If the operation could not be started.
        """
        import ee

        if not self._registry.name_of(start):
            self._answer()
        if name := self._registry.name_of(start):
            return name
        raise ee.EEException(str(self._registry.refusal_of(start) or f"{start.describe()} was not started."))

    def _answer(self) -> None:
        """Start all registered operations. Only one thread at a time does this."""
        import ee

        with self._starting, self._within(is_registering=False):
            if not (starts := self._unstarted()):
                return
            if self._registry.is_retry:
                for asset in filter(None, map(destination_of, (start.body for start in starts))):
                    if asset.startswith("projects/"):
                        with suppress(ee.EEException):  # `Deeds` records whether the asset exists.
                            ee.data.getAsset(asset)
            try:
                self._start_all()
            except EarthEngineError as error:
                raise ee.EEException(str(error)) from error
            finally:
                done = len(starts) - len(self._unstarted())
                self.answered, self.started = self.answered + bool(done), self.started + done
            self._assets.clear()

    def _unstarted(self) -> list[Start]:
        return [start for start in list(self._registry.registered.values()) if not self._registry.name_of(start)]

    def hint(self) -> str:
        """Return a hint for the log, if the function often needed answers between starts; empty otherwise."""
        if self.answered < ANSWERED_OFTEN:
            return ""
        return (
            f"batch_starts=True started {self.started:,} operations in {self.answered:,} parts, because the function "
            "reads an id, a status or a list between starts. It is faster to start all operations first."
        )

    def fill_in(self) -> None:
        """Set the id and name of each of the client's tasks whose operation is started."""
        for task, start in self._start_of.values():
            if (name := self._registry.name_of(start)) and not isinstance(task, Answer):
                fill(task, name)

    def changes(self, ee: Any) -> list[tuple[Any, str, Any]]:
        """Return the patches of the client: for each, the owner, the name and the replacement."""
        task = ee.batch.Task
        return [
            (task, "start", self._without_answer(task.start)),
            (task, "__repr__", self._as_it_is(task.__repr__)),
            (task, "id", OfStarted("id", self.fill)),
            (task, "name", OfStarted("name", self.fill)),
            *(
                (ee.data, name, self._with_answer(getattr(ee.data, name), shape))
                for name, shape in (
                    ("_prepare_and_run_export", operation),
                    ("_startIngestion", ingestion),
                    ("startTableIngestion", ingestion),
                )
            ),
        ]

    def _registered(self, call: Callable[[], Any]) -> tuple[Any, Start | None]:
        """Make a call of the client; return its result, and the start if the call has registered one."""
        try:
            with self._within(is_registering=True):
                return call(), None
        except RegisteredError as registered:
            return None, registered.start

    def _without_answer(self, start: Callable[..., None]) -> Callable[..., None]:
        @wraps(start)
        def register(task: Any, *args: Any, **kwargs: Any) -> None:
            _, registered = self._registered(lambda: start(task, *args, **kwargs))
            if registered:
                self._start_of[id(task)] = (task, registered)

        return register

    def _with_answer(self, call: Callable[..., Any], shape: Callable[[str], dict[str, Any]]) -> Callable[..., Any]:
        @wraps(call)
        def register(*args: Any, **kwargs: Any) -> Any:
            if self.is_registering:  # Another patched call of the client makes this one.
                return call(*args, **kwargs)
            returned, registered = self._registered(lambda: call(*args, **kwargs))
            if not registered:
                return returned
            answer = Answer(shape(""), lambda: shape(self.name_of(registered)))
            self._start_of[id(answer)] = (answer, registered)
            return answer

        return register

    def _as_it_is(self, read: Callable[[Any], str]) -> Callable[[Any], str]:
        @wraps(read)
        def read_as_it_is(task: Any) -> str:
            with self._within(is_registering=self.is_registering):
                return read(task)

        return read_as_it_is

    def fill(self, task: Any) -> None:
        """Start the operation of a task that the function reads, if its start is registered."""
        if not getattr(self._inside, "is_ours", False) and (start := self.start_of(task)):
            fill(task, self.name_of(start))
