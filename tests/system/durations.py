"""Seconds that something may take in the cells of the matrix: the same for their DAGs, and for who waits for it.

Each leaves time enough to a busy machine for the task to begin before: what is measured is what happens after it.
"""

#: From a run's start to its end, and from when it is queued to its deadline.
DAGRUN_TIMEOUT = DEADLINE = 60.0

#: From a task's start to its end: where the worker ends it, and where the triggerer does.
EXECUTION_TIMEOUT, TRIGGER_TIMEOUT = 40.0, 25.0
