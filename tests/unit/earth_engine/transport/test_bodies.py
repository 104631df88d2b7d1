"""A response's body, as it arrives in pieces."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_ee_provider.earth_engine.model import limits
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, TransientError
from airflow_ee_provider.earth_engine.protocol.effects import NoResponse
from airflow_ee_provider.earth_engine.transport.bodies import Body

if TYPE_CHECKING:
    from collections.abc import Iterable

ANSWER = b'{"name": "projects/p/operations/A"}'


def read(pieces: Iterable[bytes], encoding: str = "gzip") -> bytes | NoResponse:
    body = Body({"Content-Encoding": encoding})
    return body.refused() or next((why for piece in pieces if (why := body.add(piece))), None) or body.whole()


@given(st.binary(max_size=200), st.integers(1, 50), st.booleans())
def test_body_is_complete_however_it_is_cut_into_pieces(sent: bytes, size: int, is_compressed: bool) -> None:
    body = gzip.compress(sent) if is_compressed else sent
    pieces = [body[first : first + size] for first in range(0, len(body), size)]

    assert read(pieces, "gzip" if is_compressed else "identity") == sent


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (gzip.compress(ANSWER)[:-9], "its answer broke off"),
        (b"\x1f\x8b" + ANSWER, "its answer cannot be unpacked"),
        (ANSWER, "its answer cannot be unpacked"),
    ],
    ids=["cut", "damaged", "not compressed at all"],
)
def test_damaged_body_is_a_transient_error(body: bytes, says: str) -> None:
    answer = read([body])

    assert isinstance(answer, NoResponse)
    assert answer.error is TransientError
    assert answer.reason.startswith(says)


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "x" * 10_000])
def test_body_with_an_unrequested_encoding_is_not_read(encoding: str) -> None:
    answer = read([b""], encoding)

    assert isinstance(answer, NoResponse)
    assert answer.error is EarthEngineError
    assert "which was not asked for" in answer.reason
    assert len(answer.reason) < 200


def test_size_of_an_unpacked_body_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LARGEST_ANSWER", 1000)
    whole, too_long = gzip.compress(b" " * 1000), gzip.compress(b" " * 1_000_000)

    assert read([whole]) == b" " * 1000
    assert isinstance(found := read([too_long]), NoResponse)
    assert found.reason == "its answer is longer than 1,000 bytes"


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "", "identity"])
def test_response_without_a_body_is_empty(encoding: str) -> None:
    assert read([], encoding) == b""
