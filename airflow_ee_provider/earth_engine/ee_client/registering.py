"""``batch_starts``: a function's starts are registered, and begin side by side once it has returned.

The client's own code forms each request, up to the moment in which it would send it. Code that needs an answer gets
one: before a task's id is read, or operations are listed, all that is registered is started, and the code waits for it.
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

#: Requests whose answers differ once operations are started: a list of them, and what concerns an asset.
_LIST = re.compile(r".*/projects/[^/?]+/operations(?:\?.*)?")
_ASSET = re.compile(r".*/(?P<name>projects/[^/?]+/assets/[^?:]+)(?::(?P<verb>[A-Za-z]+))?(?:\?.*)?")

#: How often a function may need an answer before the log reports it.
ANSWERED_OFTEN = 10


class Registry(Protocol):
    """Who starts what is registered."""

    @property
    def registered(self) -> Mapping[str, Start]:
        """What is registered, started or not, by `Start.key`."""

    @property
    def is_retry(self) -> bool:
        """Whether an earlier try may have started the same."""

    def register(self, start: Start) -> None:
        """Start it once the function has returned, or needs it."""

    def name_of(self, start: Start) -> str:
        """Return the operation that this process has started, or found; empty if it has not yet."""

    def refusal_of(self, start: Start) -> EarthEngineError | None:
        """Return why it could not be started."""


class RegisteredError(BaseException):
    """Ends a call of the client's in place of an answer; no ``except Exception`` of a library's may catch it."""

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        self.start = start


class Registering:
    """The starts that a function registers, and what the client has made of each.

    :param start_all: starts what is registered, side by side, and waits until it is started or refused.
    """

    def __init__(self, registry: Registry, start_all: Callable[[], None]) -> None:
        self._registry, self._start_all = registry, start_all
        #: By ``id()``, the client's task, or what its call has returned, and its start.
        self._start_of: dict[int, tuple[Any, Start]] = {}
        self._assets: set[str] = set()
        self._inside = threading.local()
        self._starting = threading.RLock()
        #: How often the function has needed an answer before it returned, and for how many starts.
        self.answered = self.started = 0

    @property
    def is_registering(self) -> bool:
        """Whether this thread makes a call of the client's of which the start is registered."""
        return getattr(self._inside, "is_registering", False)

    @contextmanager
    def _within(self, *, is_registering: bool) -> Iterator[None]:
        """Let the client's own code read a task, or make requests, as it does without us."""
        before = (self.is_registering, getattr(self._inside, "is_ours", False))
        self._inside.is_registering, self._inside.is_ours = is_registering, True
        try:
            yield
        finally:
            self._inside.is_registering, self._inside.is_ours = before

    def register(self, start: Start) -> RegisteredError:
        """Register a start, and return what ends the call that asks for it.

        :raises EarthEngineError: if nothing more is to be started.
        """
        self._registry.register(start)
        if (asset := destination_of(start.body)).startswith("projects/"):
            self._assets.add(asset)
        return RegisteredError(start)

    def start_of(self, thing: object) -> Start | None:
        """Return the registered start that an object stands for: a task, or what a call has returned."""
        return self._start_of.get(id(thing), (None, None))[1]

    def before_request(self, uri: str) -> None:
        """Start what is registered, if the answer to a request would be another one then."""
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
        """Return the name of the operation; it is started before, if it is not yet.

        :raises ee.EEException: if it could not be.
        """
        import ee

        if not self._registry.name_of(start):
            self._answer()
        if name := self._registry.name_of(start):
            return name
        raise ee.EEException(str(self._registry.refusal_of(start) or f"{start.describe()} was not started."))

    def _answer(self) -> None:
        """Start all that is registered; one thread at a time."""
        import ee

        with self._starting, self._within(is_registering=False):
            if not (starts := self._unstarted()):
                return
            if self._registry.is_retry:
                for asset in filter(None, map(destination_of, (start.body for start in starts))):
                    if asset.startswith("projects/"):
                        with suppress(ee.EEException):  # Its answer is observed: it says whether the asset is there.
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
        """Let each of the client's tasks have its id, once all are started."""
        for task, start in self._start_of.values():
            if (name := self._registry.name_of(start)) and not isinstance(task, Answer):
                fill(task, name)

    def changes(self, ee: Any) -> list[tuple[Any, str, Any]]:
        """Return what is replaced in the client: each with its owner and its name."""
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
        """Make a call of the client's; return what it returns, or what it would have started."""
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
            if self.is_registering:  # In another call of the client's.
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
        """Start a task that the function reads, if it is registered."""
        if not getattr(self._inside, "is_ours", False) and (start := self.start_of(task)):
            fill(task, self.name_of(start))
