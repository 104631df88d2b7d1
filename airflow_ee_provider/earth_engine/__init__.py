"""Earth Engine's long-running operations, without Airflow; docs/architecture.md is the map.

``model`` defines operations and errors. ``auth`` loads credentials. ``protocol`` defines requests and interprets
responses, without I/O; ``transport`` sends the requests. ``ee_client`` provides the official client to a function.
"""
