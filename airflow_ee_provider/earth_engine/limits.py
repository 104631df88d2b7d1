"""What the API allows: 100 requests a second, and 40 at once; each a little less, to be below it on any clock."""

from __future__ import annotations

#: Requests under way at the same time, and started in a second, at most.
CONCURRENT, RATE = 32, 95.0
