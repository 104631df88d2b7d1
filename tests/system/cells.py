"""The cells of the lifecycle matrix: who holds an operation, and what happens."""

from __future__ import annotations

PROJECT = "earth-demo"
