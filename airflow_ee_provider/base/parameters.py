"""Check what is not just text: when the DAG is parsed or, where it is templated, once it is rendered."""

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
    """Stands for a parameter that was not given: no rendered or mapped value does."""


@dataclass(frozen=True)
class Number:
    """A parameter that is a number, or a text of one.

    :param name: of the parameter.
    :param is_optional: whether None is allowed.
    :param least: the smallest that is allowed.
    :param most: the largest that is allowed; None for any.
    """

    name: str
    is_optional: bool = False
    least: float = 0
    most: float | None = None

    expected = "a number"

    def read(self, value: Any) -> Any:
        """Return the value as it is used.

        :raises InvalidRequestError: a `ValueError`, if it is none; says which parameter is wrong, and what is expected.
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
        """Read the value, whatever it is."""
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(value)
        return number


class Integer(Number):
    """A parameter that is a whole number."""

    expected = "a whole number"

    def convert(self, value: Any) -> float:
        """Read the value, whatever it is."""
        number = super().convert(value)
        if number != int(number):
            raise ValueError(value)
        return int(number)


class FailureBudget(Number):
    """A parameter that is a whole number, or a share below 1."""

    expected = "a whole number, or a share below 1,"

    def convert(self, value: Any) -> float:
        """Read the value, whatever it is."""
        number = super().convert(value)
        if number > 1 and number != int(number):
            raise ValueError(value)
        return number


#: Seconds of the longest duration: ten years.
LONGEST = 10 * 365 * 86400.0


@dataclass(frozen=True)
class Seconds(Number):
    """A duration: seconds, or a timedelta; `LONGEST` at most."""

    most: float | None = LONGEST

    expected = "a number of seconds, or a timedelta,"

    def convert(self, value: Any) -> float:
        """Read the value, whatever it is."""
        return super().convert(value.total_seconds() if isinstance(value, timedelta) else value)


class PollInterval(Seconds):
    """The time between two polls: a task that asks without a pause takes the quota of all others."""

    def read(self, value: Any) -> Any:
        """Return seconds."""
        return replace(Seconds(self.name), least=waiting.SHORTEST_POLL_INTERVAL).read(value)


class Age(Seconds):
    """A timedelta, or seconds."""

    expected = "a timedelta, or a number of seconds,"

    def read(self, value: Any) -> Any:
        """Return a timedelta, which is what ages are compared with."""
        number = super().read(value)
        return None if number is None else timedelta(seconds=number)


@dataclass(frozen=True)
class Flag:
    """A parameter that is true or false, or a text of that.

    :param name: of the parameter.
    :param is_optional: whether None is allowed.
    """

    name: str
    is_optional: bool = False

    def read(self, value: Any) -> Any:
        """Return the value as it is used.

        :raises InvalidRequestError: a `ValueError`, if it is none; says which parameter is wrong.
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
    """A parameter that is a text, or None.

    :param name: of the parameter.
    """

    name: str

    expected = "a text"

    def read(self, value: Any) -> Any:
        """Return the value as it is used.

        :raises InvalidRequestError: a `ValueError`, if it is none; says which parameter is wrong.
        """
        if not (value is None or self.is_right(value)):
            raise InvalidRequestError(f"{self.name} is {value!r:.100} and has to be {self.expected}.")
        return value

    def is_right(self, value: Any) -> bool:
        """Whether a value is what is expected."""
        return _is_text(value)


class Texts(Text):
    """A parameter that is one text or several, or None."""

    expected = "a text, or a list of texts"

    def is_right(self, value: Any) -> bool:
        """Whether a value is what is expected."""
        if isinstance(value, Sequence) and not isinstance(value, str):
            return all(map(_is_text, value))
        return _is_text(value)


def _is_text(value: Any) -> bool:
    """Whether a value can be sent and stored as a text: JSON's escapes can make half a character."""
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


@dataclass(frozen=True)
class Choice:
    """A parameter that is one of a few words.

    :param name: of the parameter.
    :param words: that it can be.
    """

    name: str
    words: tuple[str, ...]

    def read(self, value: Any) -> Any:
        """Return the value as it is used.

        :raises InvalidRequestError: a `ValueError`, if it is none; says which parameter is wrong, and what it can be.
        """
        if value not in self.words:
            raise InvalidRequestError(f"{self.name} is {value!r:.100} and has to be one of {', '.join(self.words)}.")
        return value


def scope(value: str | None, words: tuple[str, ...], *, are_names_given: bool) -> str | None:
    """Check whose operations are meant where no names are given; None if that is not said.

    :raises ValueError: if it is none of the words, or names are given as well.
    """
    if value is None:
        return None
    if are_names_given:
        raise ValueError("scope says whose operations are cancelled where no operation_names are given.")
    word: str = Choice("scope", words).read(value)
    return word


#: In whose name Earth Engine is asked; the `CONNECTION_FIELDS` of everything that asks.
CONNECTION = (Text("earth_engine_conn_id"), Text("project_id"), Texts("impersonation_chain"))

#: What all of these have: a ``name``, and a ``read`` that returns the value as it is used, or raises ValueError.
Parameter = Number | Flag | Choice | Text


def given(holder: object, names: Iterable[str]) -> tuple[str, ...]:
    """Return which of the parameters were given; call it before they are rendered.

    :raises ValueError: if one is given, and empty.
    """
    there = tuple(name for name in names if getattr(holder, name) is not None)
    for name in there:
        if _is_empty(getattr(holder, name)):
            raise ValueError(f"{name} is empty: leave it out, or give a value.")
    return there


def check_not_empty(holder: object, names: Iterable[str]) -> None:
    """Refuse a parameter that was given and is empty once it is rendered.

    :raises AirflowFailException: naming it: trying again cannot help.
    """
    for name in names:
        if _is_empty(getattr(holder, name)):
            raise AirflowFailException(f"{name} is empty once it is rendered: more than was meant would be selected.")


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip() in ("", "None", "[]", "()")
    return value is None or (isinstance(value, (list, tuple, set, frozenset, dict)) and not value)


def check(holder: Any, parameters: Iterable[Parameter]) -> None:
    """Check what an operator, sensor or notifier was made with; what is still to be rendered is left for later.

    :raises ValueError: if one is wrong.
    """
    templated = getattr(holder, "template_fields", ())
    for parameter in parameters:
        value = getattr(holder, parameter.name)
        if not (parameter.name in templated and _is_to_be_rendered(value)):
            setattr(holder, parameter.name, parameter.read(value))


def check_rendered(holder: Any, parameters: Iterable[Parameter]) -> None:
    """Check them again once they are rendered, before anything is sent.

    :raises AirflowFailException: if one is wrong: trying again cannot help.
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
