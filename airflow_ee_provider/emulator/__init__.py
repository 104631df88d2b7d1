"""A local Earth Engine operations service, to test DAGs with: ``python -m airflow_ee_provider.emulator``.

It shares no code with this package's client. Tests run the official ``earthengine-api`` against it.
"""

from airflow_ee_provider.emulator.running import Emulator

__all__ = ["Emulator"]
