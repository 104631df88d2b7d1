"""Check parameters when the DAG is parsed; templated ones, after Airflow has rendered them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_ee_provider.earth_engine.model.errors import InvalidRequestError
from airflow_ee_provider.earth_engine.protocol import waiting

if TYPE_CHECKING:
    from collections.abc import Iterable


class NotGiven:
    """Marks a parameter that was not given. No rendered or mapped value is equal to it."""


@dataclass(frozen=True)
class Number:
    """A parameter that is a number, or the text of a number.

    :param name: The parameter's name.
    :param is_optional: Whether None is allowed.
    :param least: The smallest allowed value.
    :param most: The largest allowed value; None for no limit.
    """

    name: str
    is_optional: bool = False
    least: float = 0
    most: float | None = None

    expected = "a number"

    def read(self, value: Any) -> Any:
        """Return the value as a number.

        :raises InvalidRequestError: A `ValueError`, if it is not one; names the parameter and the expected values.
        """
        if self.is_optional and (value is None or (isinstance(value, str) and value.strip() in ("", "None"))):
            return None
        try:
            number = self.convert(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if isinstance(value, bool) or not (self.least <= number <= (math.inf if self.most is None else self.most)):
            bounds = f"from {self.least:g}" + (f" to {self.most:g}" if self.most is not None else "")
            raise InvalidRequestError(f"{self.name} is {value!r:.100} and has to be {self.expected} {bounds}.")
        return number

    def convert(self, value: Any) -> float:
        """Return the value as a number, or raise ValueError."""
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(value)
        return number


class Integer(Number):
    """A parameter that is a whole number."""

    expected = "a whole number"

    def convert(self, value: Any) -> float:
        """Return the value as a number, or raise ValueError."""
        number = super().convert(value)
        if number != int(number):
            raise ValueError(value)
        return int(number)


class FailureBudget(Number):
    """A parameter that is a whole number, or a share below 1."""

    expected = "a whole number, or a share below 1,"

    def convert(self, value: Any) -> float:
        """Return the value as a number, or raise ValueError."""
        number = super().convert(value)
        if number > 1 and number != int(number):
            raise ValueError(value)
        return number


#: The longest duration, in seconds: ten years.
LONGEST = 10 * 365 * 86400.0


@dataclass(frozen=True)
class Seconds(Number):
    """A duration: seconds, or a timedelta. The longest is `LONGEST`."""

    most: float | None = LONGEST

    expected = "a number of seconds, or a timedelta,"

    def convert(self, value: Any) -> float:
        """Return the value as a number, or raise ValueError."""
        return super().convert(value.total_seconds() if isinstance(value, timedelta) else value)


class PollInterval(Seconds):
    """The time between two polls. It has a minimum, since polls without a pause would use up the project's quota."""

    def read(self, value: Any) -> Any:
        """Return the value in seconds."""
        return replace(Seconds(self.name), least=waiting.SHORTEST_POLL_INTERVAL).read(value)


class Age(Seconds):
    """A timedelta, or seconds."""

    expected = "a timedelta, or a number of seconds,"

    def read(self, value: Any) -> Any:
        """Return the value as a timedelta."""
        number = super().read(value)
        return None if number is None else timedelta(seconds=number)


@dataclass(frozen=True)
class Flag:
    """A parameter that is true or false, or the text of either.

    :param name: The parameter's name.
    :param is_optional: Whether None is allowed.
    """

    name: str
    is_optional: bool = False

    def read(self, value: Any) -> Any:
        """Return the value as a bool.

        :raises InvalidRequestError: A `ValueError`, if it is not one; names the parameter.
        """
        text = str(value).strip().lower()
        if self.is_optional and text in ("", "none"):
            return None
        if text in ("true", "1"):
            return True
        if text in ("false", "0"):
            return False
        raise InvalidRequestError(f"{self.name} is {value!r:.100} and has to be true or false.")


@dataclass(frozen=True)
class Text:
    """A parameter that is a string, or None.

    :param name: The parameter's name.
    :param is_list: Whether a list of strings is allowed, too.
    """

    name: str
    is_list: bool = False

    def read(self, value: Any) -> Any:
        """Return the value unchanged.

        :raises InvalidRequestError: A `ValueError`, if it has another type; names the parameter.
        """
        is_list = self.is_list and isinstance(value, Sequence) and not isinstance(value, str)
        if not (value is None or all(map(_is_text, value if is_list else (value,)))):
            expected = "a string, or a list of strings" if self.is_list else "a string"
            raise InvalidRequestError(f"{self.name} is {value!r:.100} and has to be {expected}.")
        return value


def _is_text(value: Any) -> bool:
    """Whether a value is a string that can be encoded. One with half a surrogate pair, which JSON allows, cannot."""
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


@dataclass(frozen=True)
class Choice:
    """A parameter that is one of a few words.

    :param name: The parameter's name.
    :param words: The allowed words.
    """

    name: str
    words: tuple[str, ...]

    def read(self, value: Any) -> Any:
        """Return the value unchanged.

        :raises InvalidRequestError: A `ValueError`, if it is another word; names the parameter and the allowed words.
        """
        if value not in self.words:
            raise InvalidRequestError(f"{self.name} is {value!r:.100} and has to be one of {', '.join(self.words)}.")
        return value


def scope(value: str | None, words: tuple[str, ...], *, are_names_given: bool) -> str | None:
    """Check the ``scope``, which selects operations if no ``operation_names`` are given. It may be None.

    :raises ValueError: If it is another word, or if ``operation_names`` are given as well.
    """
    if value is None:
        return None
    if are_names_given:
        raise ValueError("scope and operation_names were both given. Give only one of them.")
    word: str = Choice("scope", words).read(value)
    return word


#: The parameters of the account that calls Earth Engine; the same in operators, sensors, triggers and notifiers.
CONNECTION = (Text("earth_engine_conn_id"), Text("project_id"), Text("impersonation_chain", is_list=True))
CONNECTION_FIELDS = tuple(one.name for one in CONNECTION)


def connection_kwargs(holder: object) -> dict[str, Any]:
    """Return the parameters for the hook of a task, trigger or notifier. A template's lazy sequence becomes a list."""
    values = {name: getattr(holder, name) for name in CONNECTION_FIELDS}
    return {name: value if value is None or isinstance(value, str) else list(value) for name, value in values.items()}


#: A parameter has a ``name``, and a method ``read`` that returns the converted value or raises ValueError.
Parameter = Number | Flag | Choice | Text


def given(holder: object, names: Iterable[str]) -> tuple[str, ...]:
    """Return which of the parameters were given. Call it before Airflow renders them.

    :raises ValueError: If a parameter is given but empty.
    """
    there = tuple(name for name in names if getattr(holder, name) is not None)
    for name in there:
        if _is_empty(getattr(holder, name)):
            raise ValueError(f"{name} is empty. Omit it, or give a value.")
    return there


def check_not_empty(holder: object, names: Iterable[str]) -> None:
    """Refuse a parameter that was given but whose rendered value is empty.

    :raises AirflowFailException: Names the parameter. The task is not retried, since a retry renders the same value.
    """
    for name in names:
        if _is_empty(getattr(holder, name)):
            raise AirflowFailException(
                f"{name} rendered to an empty value. Nothing was done, since an empty value would select more "
                "operations than intended. Check the template."
            )


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip() in ("", "None", "[]", "()")
    return value is None or (isinstance(value, (list, tuple, set, frozenset, dict)) and not value)


def check(holder: Any, parameters: Iterable[Parameter]) -> None:
    """Check the parameters of an operator, sensor or notifier, except those that Airflow still has to render.

    :raises ValueError: If a parameter is invalid.
    """
    templated = getattr(holder, "template_fields", ())
    for parameter in parameters:
        value = getattr(holder, parameter.name)
        if not (parameter.name in templated and _is_to_be_rendered(value)):
            setattr(holder, parameter.name, parameter.read(value))


def check_rendered(holder: Any, parameters: Iterable[Parameter]) -> None:
    """Check the rendered parameters, before the first request is sent.

    :raises AirflowFailException: If a parameter is invalid. The task is not retried.
    """
    for parameter in parameters:
        try:
            setattr(holder, parameter.name, parameter.read(getattr(holder, parameter.name)))
        except ValueError as error:
            raise AirflowFailException(str(error)) from None


def _is_to_be_rendered(value: Any) -> bool:
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    return hasattr(value, "resolve")  # Another task's output.
