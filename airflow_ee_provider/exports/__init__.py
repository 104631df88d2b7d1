"""Starts exports for a task: side by side, within a limit of active ones, and again after a transient failure."""
