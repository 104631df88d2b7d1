"""The provider's page in Airflow's UI, and its endpoints in the API server."""
