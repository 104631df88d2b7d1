"""The methods of Earth Engine's API, its retries and its waits, as generators: they do no input or output."""
