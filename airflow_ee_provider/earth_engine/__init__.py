"""Earth Engine's long-running operations, without Airflow; docs/architecture.md is the map.

The modules here are the model: what an operation is, who asks, what goes wrong. ``flows`` says what is asked and what
an answer means, and does no I/O; ``client`` carries that out; ``ee_session`` lends the official client to a function.
"""
