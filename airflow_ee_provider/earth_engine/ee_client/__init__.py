"""The official client, `earthengine-api`, as a task's function uses it."""
