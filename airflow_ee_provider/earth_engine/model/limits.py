"""What is asked of a server at most, and taken from it: the API's limits, and the bounds of an answer.

The API allows 100 requests a second, and 40 at once; each a little less, to be below it on any clock.
"""

from __future__ import annotations

#: Requests under way at the same time, and started in a second, at most.
CONCURRENT, RATE = 32, 95.0

#: Seconds for connecting, for each read, and for a whole answer.
CONNECT_TIMEOUT, READ_TIMEOUT, ANSWER_TIMEOUT = 10.0, 60.0, 180.0

#: Bytes that an answer has at most, once it is decompressed: Earth Engine's own have 10 MB, a token server's some KB.
LARGEST_ANSWER, LARGEST_TOKEN_ANSWER = 32 * 2**20, 2**20

#: Bytes that are read at once, compressed ones: each can become a thousand.
PIECE = 4096

#: Answers of more bytes are parsed in a thread, so that the event loop is not blocked.
LARGE_ANSWER = 2**20
