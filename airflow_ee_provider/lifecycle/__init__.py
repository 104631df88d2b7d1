"""Decide whether to cancel a task's operations when the task ends, and act on the decision."""
