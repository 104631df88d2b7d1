"""A method that is written once, as a flow, and that both hooks have: blocking, and as a coroutine."""

from __future__ import annotations

import re
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from airflow_ee_provider.earth_engine.protocol.effects import Flow
    from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook, EarthEngineHook

P = ParamSpec("P")
T = TypeVar("T")


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
    """Let ``help()`` and editors show what a caller gets: a flow's result, not the flow."""
    own = signature(method)  # type: ignore[arg-type]
    result = re.sub(r"^Flow\[(.*)\]$", r"\1", str(own.return_annotation))
    method.__signature__ = own.replace(return_annotation=result)  # type: ignore[attr-defined]
    return method
