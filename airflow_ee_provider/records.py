"""Which operations a task holds: what a task's own code calls, to record them and to find them again."""

from __future__ import annotations

from airflow_ee_provider.tracking.resuming import resume_operations
from airflow_ee_provider.tracking.store import record_operations

__all__ = ["record_operations", "resume_operations"]
