"""Earth Engine's long-running operations, without Airflow.

``operations`` says what an operation is, ``protocol`` what an answer means and what is tried again, ``calls`` what to
send; ``cancelling`` and ``waiting`` what to do in which order, ``api`` what of that the hooks offer. ``drivers``
carries it out, in a thread or on an event loop, and ``transports`` sends with requests or aiohttp: only they do I/O.
"""
