"""Who calls Earth Engine, and where: a connection's settings, its credentials and its HTTP sessions."""
