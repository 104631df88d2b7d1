"""The command line: ``airflow earth-engine``, or ``python -m airflow_ee_provider``."""
