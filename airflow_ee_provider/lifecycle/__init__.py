"""The end of an operation: the collector, which cancels what tasks owned and no active task needs."""
