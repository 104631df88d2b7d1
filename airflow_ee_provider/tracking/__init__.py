"""Record the operations of tasks, and read the records for a task, its run, the page and the collector."""
