"""A pytest plugin: the official client's own tests use the emulator's API description instead of their own."""

from __future__ import annotations

from typing import Any

from ee import _cloud_api_utils

from airflow_ee_provider.emulator.discovery import discovery_document

_build = _cloud_api_utils.build_cloud_resource_from_document


def _from_ours(_document: Any, *args: Any, **options: Any) -> Any:
    return _build(discovery_document("https://earthengine.googleapis.com"), *args, **options)


_cloud_api_utils.build_cloud_resource_from_document = _from_ours
