"""What carries flows out: HTTP with requests and with aiohttp, and the poller that many wait on."""
