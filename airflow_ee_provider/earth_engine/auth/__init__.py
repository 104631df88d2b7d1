"""A connection's settings, its credentials and its HTTP sessions."""
