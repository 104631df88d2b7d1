"""Time limits in the cells of the matrix, in seconds, for their DAGs and for the tests that wait for these limits.

On a busy machine, the task must begin before a limit passes: the tests measure what happens after the limit.
"""

#: From a run's start to its timeout, and from when it is queued to its deadline.
DAGRUN_TIMEOUT = DEADLINE = 60.0

#: From a task's start to its timeout in the worker, and in the triggerer.
EXECUTION_TIMEOUT, TRIGGER_TIMEOUT = 40.0, 25.0
