"""Runs the protocol's generators over requests or aiohttp, within the API's limits."""
