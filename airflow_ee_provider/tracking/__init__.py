"""Records which operations a task has, and reads those records: for the task, its run, the page and the collector."""
