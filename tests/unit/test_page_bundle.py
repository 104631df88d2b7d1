"""The bundle for the browser was built from the current sources."""

from __future__ import annotations

import hashlib
from pathlib import Path

WWW = Path(__file__).parents[2] / "airflow_ee_provider" / "plugins" / "www"


def test_bundle_was_built_from_the_current_sources() -> None:
    """`make ui` builds it."""
    sources = sorted((WWW / "src").iterdir(), key=lambda path: path.name)
    expected = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()

    first_line = (WWW / "dist" / "main.js").read_text(encoding="utf-8").partition("\n")[0]

    assert first_line.endswith(expected)


def test_bundle_has_no_react_of_its_own_and_contacts_no_other_host() -> None:
    bundle = (WWW / "dist" / "main.js").read_text(encoding="utf-8")

    assert len(bundle) < 40_000
    assert "http://" not in bundle
    assert "https://" not in bundle
