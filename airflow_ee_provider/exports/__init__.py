"""Starts exports for a task: in parallel, within a limit of active exports, and again after a transient failure."""
