"""Functions for your own code: record operations, and find them again in the next try."""

from __future__ import annotations

from airflow_ee_provider.tracking.resuming import resume_operations
from airflow_ee_provider.tracking.store import record_operations

__all__ = ["record_operations", "resume_operations"]
