"""What all operators, sensors, triggers and notifiers share, and what differs between the versions of Airflow."""
