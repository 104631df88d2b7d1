"""Code that all operators, sensors, triggers and notifiers share, and the differences between versions of Airflow."""
