"""Parameters that have a new name: the old one works on, warns, and says until when."""

from __future__ import annotations

import warnings
from functools import wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_ee_provider.base.parameters import NotGiven

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


def renamed_parameter(old: str, new: str, *, removed_in: str) -> Callable[[F], F]:
    """
    Accept a parameter's old name in an operator's ``__init__``: in a call, in ``default_args``, in ``partial``.

    :param old: the name that goes.
    :param new: the name that it has now.
    :param removed_in: the version of this package that does not know the old one any more.
    """

    def decorate(init: F) -> F:
        @wraps(init)
        def accept(self: Any, *args: Any, **kwargs: Any) -> Any:
            if (value := kwargs.pop(old, NotGiven)) is not NotGiven:
                name = type(self).__name__
                if new in kwargs:
                    raise TypeError(f"{name} was given both {new} and {old}, which is its old name.")
                _warn(f"{name}: {old} is called {new} now; the old name goes in {removed_in}.")
                kwargs[new] = value
            return init(self, *args, **kwargs)

        # Airflow reads it, to know what default_args and partial may have.
        *named, rest = signature(init).parameters.values()
        old_one = Parameter(old, Parameter.KEYWORD_ONLY, default=NotGiven)
        accept.__signature__ = signature(init).replace(parameters=[*named, old_one, rest])  # type: ignore[attr-defined]
        return accept  # type: ignore[return-value]

    return decorate


def _warn(message: str) -> None:
    from airflow.exceptions import AirflowProviderDeprecationWarning

    warnings.warn(message, AirflowProviderDeprecationWarning, stacklevel=4)
