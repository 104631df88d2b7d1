"""Matrix, model, moments, soak and traces use the same word for the same event."""

from __future__ import annotations

import json

import pytest
import traces
from cleaners import CLEANERS
from events import EVENTS
from moments import EVENTS as AT_MOMENTS
from mutants import MUTANTS
from outages import DISTURBANCES, DISTURBANCES_IN_PRODUCTION, MEANWHILE, OUTAGES
from soak_runs import EVENTS as IN_A_SOAK
from strikes import STRIKES
from tracing import TRACES
from vocabulary import SENTENCES

WORDS = {
    "the matrix": EVENTS,
    "the model": STRIKES,
    "the moments of a start": AT_MOMENTS,
    "a soak": [*IN_A_SOAK, *DISTURBANCES, *DISTURBANCES_IN_PRODUCTION],
    "outages": [*OUTAGES, *MEANWHILE],
    "what is looked for in the model": traces.EVENTS,
    "its strikes": [strike for strikes in traces.EVENTS.values() for strike in strikes],
    "traces": [one["event"] for path in TRACES.glob("*.json") for one in json.loads(path.read_text(encoding="utf-8"))],
}


@pytest.mark.parametrize("where", WORDS)
def test_every_word_has_a_sentence(where: str) -> None:
    assert set(WORDS[where]) - SENTENCES.keys() == set()


def test_mutants_and_cleaners_name_strikes() -> None:
    named = [word for mutant in MUTANTS for word in (*mutant.strikes, *mutant.before)]
    named += [word for cleaner in CLEANERS.values() for word in cleaner.not_after]

    assert set(named) - STRIKES.keys() == set()


def test_no_sentence_is_repeated_and_no_word_is_unused() -> None:
    used = {word for words in WORDS.values() for word in words} | {"left_alone"}

    assert len(set(SENTENCES.values())) == len(SENTENCES)
    assert SENTENCES.keys() - used == set()
