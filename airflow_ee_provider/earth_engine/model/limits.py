"""Limits for requests and responses.

The API allows 100 requests a second, and 40 at the same time. The limits here are a little lower, since clocks differ.
"""

from __future__ import annotations

#: The most requests at the same time, and the most requests in a second.
CONCURRENT, RATE = 32, 95.0

#: Time limits for connecting, for each read, and for a whole response, in seconds.
CONNECT_TIMEOUT, READ_TIMEOUT, ANSWER_TIMEOUT = 10.0, 60.0, 180.0

#: The most bytes of a decompressed response. Earth Engine's responses have up to 10 MB, a token server's some KB.
LARGEST_ANSWER, LARGEST_TOKEN_ANSWER = 32 * 2**20, 2**20

#: The compressed bytes that are read at once. Each byte can become a thousand when it is decompressed.
PIECE = 4096

#: Responses of more bytes are parsed in a thread, so that the event loop is not blocked.
LARGE_ANSWER = 2**20
