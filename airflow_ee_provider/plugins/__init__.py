"""What the provider adds to Airflow's own UI and API server."""
