"""A real Airflow with an emulated Earth Engine: for the demo and the system tests. It is not in the wheel."""
