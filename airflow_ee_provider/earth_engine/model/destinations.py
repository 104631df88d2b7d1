"""Destinations of exports: links for a browser, and datasets for lineage.

Follows https://developers.google.com/earth-engine/reference/rest/v1/projects.image/export (``…ExportOptions``)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

_BUCKETS = "https://console.cloud.google.com/storage/browser"
#: The most characters of a link. Real links are shorter, and Airflow and OpenLineage store no longer ones.
LONGEST_URI = 1000

_ASSETS = "https://code.earthengine.google.com/?asset="


def console_url_of(body: Mapping[str, Any]) -> str:
    """Return the address of an export's output, from its request; empty if the request does not contain it."""
    options = next((v for k, v in body.items() if k.endswith("ExportOptions") and isinstance(v, Mapping)), {})

    def of(destination: str, field: str) -> str:
        value = options.get(destination)
        return quote(str(value.get(field) or ""), safe="/") if isinstance(value, Mapping) else ""

    if bucket := of("cloudStorageDestination", "bucket"):
        folder = of("cloudStorageDestination", "filenamePrefix").rpartition("/")[0]
        return f"{_BUCKETS}/{bucket}/{folder}".rstrip("/")
    if asset := of("earthEngineDestination", "name"):
        return f"{_ASSETS}{asset}"
    if drive := of("driveDestination", "folder") or of("driveDestination", "filenamePrefix"):
        return f"https://drive.google.com/drive/search?q={drive}"
    return ""


def destination_of(body: Mapping[str, Any]) -> str:
    """Return the destination of an export or import: the same text for the same output, and empty if it is unknown.

    >>> destination_of({"assetExportOptions": {"earthEngineDestination": {"name": "projects/p/assets/x"}}})
    'projects/p/assets/x'
    """
    for name, value in body.items():
        if not isinstance(value, Mapping):
            continue
        if name.endswith("Manifest"):
            return str(value.get("name") or "")
        if name.endswith("ExportOptions"):
            for kind, destination in value.items():
                if kind.endswith("Destination") and isinstance(destination, Mapping):
                    if kind == "earthEngineDestination":
                        return str(destination.get("name") or "")
                    return f"{kind} {json.dumps(destination, sort_keys=True, default=str)}"
    return ""


def link_to(uri: str) -> str:
    """Return the address at which a person can open one of an operation's ``destination_uris``.

    :return: An empty text for other addresses, because Earth Engine's answer becomes a link in the UI.

    >>> link_to("gs://my-bucket/ndvi/2024.tif")
    'https://console.cloud.google.com/storage/browser/my-bucket/ndvi/2024.tif'
    >>> link_to("javascript:alert(1)")
    ''
    """
    try:
        url = urlsplit(uri)
    except ValueError:
        return ""
    if len(uri) > LONGEST_URI or not url.netloc or not uri.isprintable():
        return ""
    if url.scheme == "gs":
        return f"{_BUCKETS}/{quote(url.netloc + url.path, safe='/')}"
    return uri if url.scheme == "https" else ""


def openlineage_dataset(uri: str) -> tuple[str, str]:
    """Return the OpenLineage namespace and name of one of an operation's ``destination_uris``.

    >>> openlineage_dataset("https://console.developers.google.com/storage/browser/my-bucket/ndvi/2024")
    ('gs://my-bucket', 'ndvi/2024')
    >>> openlineage_dataset("https://code.earthengine.google.com/?asset=projects/p/assets/ndvi")
    ('earthengine', 'projects/p/assets/ndvi')
    >>> openlineage_dataset("https://console.cloud.google.com/bigquery?t=p.d.t")
    ('bigquery', 'p.d.t')
    """
    try:
        url = urlsplit(uri)
    except ValueError:  # The address is invalid, but the export has succeeded.
        return "unknown", uri
    _, in_bucket, path = url.path.partition("/storage/browser/")
    if in_bucket:
        bucket, _, name = path.partition("/")
        return f"gs://{bucket}", name or "/"
    query = parse_qs(url.query)
    if asset := query.get("asset"):
        return "earthengine", asset[0]
    if url.path.endswith("/bigquery") and (table := query.get("t")):
        return "bigquery", table[0]
    if not url.netloc:
        return "unknown", uri
    return f"{url.scheme}://{url.netloc}", uri.split(url.netloc, 1)[-1].lstrip("/") or "/"
