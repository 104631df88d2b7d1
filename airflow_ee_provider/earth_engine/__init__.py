"""Earth Engine's long-running operations, without Airflow.

``operations`` says what an operation is, ``protocol`` what to send and what an answer means, ``flows`` what to do in
which order; ``transports`` carries that out with requests or aiohttp. Only the transports do any I/O.
"""
