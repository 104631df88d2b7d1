"""Who holds which operation: what Earth Engine lists, joined with what Airflow's tasks have recorded."""
