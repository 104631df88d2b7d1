"""Earth Engine's long-running operations, without Airflow.

``operations`` says what an operation is, ``protocol`` what an answer means and what is tried again, ``calls`` what to
send; ``cancelling`` and ``waiting`` what to do in which order, ``api`` what of that the hooks offer. ``transports``
carries it out with requests or aiohttp: only they do any I/O.
"""
