"""A local Earth Engine operations service, to test DAGs with: ``python -m airflow_ee_provider.emulator``.

It shares no code with the client beside it; the official ``earthengine-api`` keeps it honest.
"""

from airflow_ee_provider.emulator.running import Emulator

__all__ = ["Emulator"]
