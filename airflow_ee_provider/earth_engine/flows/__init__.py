"""What is asked of Earth Engine, in which order, and what an answer means; no I/O."""
