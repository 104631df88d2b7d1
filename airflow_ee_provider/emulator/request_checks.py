"""Checks of requests that start operations: the rules in Earth Engine's documents, and the API's errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_ee_provider.emulator.faults import ApiError

_REFERENCE = "https://developers.google.com/earth-engine/reference/rest/v1/"
_EXPORT = _REFERENCE + "projects.image/export"

#: Fields that each export request has.
_COMMON = ("expression", "description", "requestId", "workloadTag", "priority")
#: Fields that the official client sends, although the documents do not mention them.
_INTERNAL = ("maxWorkers",)

#: The fields of a request besides `_COMMON`, by its kind; exactly one of those that end in ExportOptions is set.
FIELDS = {
    "image": ("maxPixels", "grid", "fileExportOptions", "assetExportOptions"),
    "table": (
        "selectors",
        "maxErrorMeters",
        "maxVertices",
        "fileExportOptions",
        "assetExportOptions",
        "featureViewExportOptions",
        "bigqueryExportOptions",
    ),
    "video": ("videoOptions", "fileExportOptions"),
    "videoMap": ("videoOptions", "tileOptions", "tileExportOptions"),
    "map": ("tileOptions", "tileExportOptions"),
    "classifier": ("assetExportOptions",),
    "image:import": ("imageManifest", "description", "overwrite", "requestId", "mode"),
    "table:import": ("tableManifest", "description", "overwrite", "requestId", "mode"),
}

#: The destinations of each export option, and the field that each destination needs.
_DESTINATIONS = {
    "fileExportOptions": {"driveDestination": "", "cloudStorageDestination": "bucket"},
    "tileExportOptions": {"cloudStorageDestination": "bucket"},
    "assetExportOptions": {"earthEngineDestination": "name"},
    "featureViewExportOptions": {"featureViewDestination": "name"},
    "bigqueryExportOptions": {"bigqueryDestination": "table"},
}

_REQUEST_ID = re.compile(r"[a-zA-Z0-9-]{1,60}")
_WORKLOAD_TAG = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_ASSET = re.compile(r"projects/[^/]+/assets/.+")
_LONGEST_DESCRIPTION = 100
_HIGHEST_PRIORITY = 9999


@dataclass(frozen=True)
class Check:
    """A check of a request.

    :param field: The request's field.
    :param rule: The valid values.
    :param source: The page with the rule.
    :param problem: Returns the error for a request of a kind; empty if the request is valid.
    """

    field: str
    rule: str
    source: str
    problem: Callable[[str, Mapping[str, Any]], str]


def check_request(kind: str, request: Mapping[str, Any]) -> None:
    """Refuse an invalid request as Earth Engine does.

    :param kind: A key of `FIELDS`.
    :raises ApiError: INVALID_ARGUMENT, for the first of `CHECKS` that fails.
    """
    for check in CHECKS:
        if problem := check.problem(kind, request):
            raise ApiError("INVALID_ARGUMENT", problem)


def _unknown_names(kind: str, request: Mapping[str, Any]) -> str:
    known = FIELDS[kind] if kind.endswith(":import") else (*_COMMON, *_INTERNAL, *FIELDS[kind])
    unknown = next((name for name in request if name not in known), None)
    return f'Invalid JSON payload received. Unknown name "{unknown}": Cannot find field.' if unknown else ""


def _expression(kind: str, request: Mapping[str, Any]) -> str:
    if kind.endswith(":import") or (isinstance(request.get("expression"), Mapping) and request["expression"]):
        return ""
    return f"Invalid value for {kind}:export: no expression."


def _export_options(kind: str, request: Mapping[str, Any]) -> str:
    possible = [name for name in FIELDS[kind] if name in _DESTINATIONS]
    given = [name for name in possible if request.get(name) is not None]
    if not possible or len(given) == 1:
        return ""
    return f"Exactly one of the export options {', '.join(possible)} must be set, not {len(given)}."


def _destination(kind: str, request: Mapping[str, Any]) -> str:
    for option in [name for name in FIELDS[kind] if name in _DESTINATIONS and name in request]:
        destinations, options = _DESTINATIONS[option], request[option]
        given = [name for name in destinations if isinstance(options, Mapping) and options.get(name) is not None]
        if len(given) != 1:
            return f"Exactly one destination of {option} must be set ({', '.join(destinations)}), not {len(given)}."
        needed, destination = destinations[given[0]], options[given[0]]
        if needed and not (isinstance(destination, Mapping) and destination.get(needed)):
            return f"The {needed} of {option}.{given[0]} must be set."
        if given[0] in ("earthEngineDestination", "featureViewDestination"):
            return _asset_name(destination["name"])
    return ""


def _asset_name(name: Any) -> str:
    if isinstance(name, str) and _ASSET.fullmatch(name):
        return ""
    return f"Name {name!r} is not the name of an asset: projects/*/assets/**."


def _manifest(kind: str, request: Mapping[str, Any]) -> str:
    if not kind.endswith(":import"):
        return ""
    manifest = request.get(FIELDS[kind][0])
    if not isinstance(manifest, Mapping) or not manifest:
        return f"Invalid value for {kind}: no manifest."
    return _asset_name(manifest.get("name"))


def _description(_kind: str, request: Mapping[str, Any]) -> str:
    description = request.get("description", "")
    if isinstance(description, str) and len(description) <= _LONGEST_DESCRIPTION:
        return ""
    return f"The description must be at most {_LONGEST_DESCRIPTION} characters long."


def _integer(field: str, kind_of_value: str, lowest: int, highest: int) -> Callable[[str, Mapping[str, Any]], str]:
    def problem(_kind: str, request: Mapping[str, Any]) -> str:
        value = request.get(field)
        if isinstance(value, Mapping):  # As the official client wraps it.
            value = value.get("value")
        if value is None:
            return ""
        try:
            number = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None:
            return f"Invalid value at '{field}' ({kind_of_value}), {value!r}."
        if not lowest <= number <= highest:
            return f"The {field} must be an integer from {lowest} to {highest}, not {number}."
        return ""

    return problem


def _text(field: str, pattern: re.Pattern[str], rule: str) -> Callable[[str, Mapping[str, Any]], str]:
    def problem(_kind: str, request: Mapping[str, Any]) -> str:
        value = request.get(field) or ""
        if value == "" or (isinstance(value, str) and pattern.fullmatch(value)):
            return ""
        return f"Invalid {field} {value!r}: {rule}."

    return problem


_REQUEST_ID_RULE = "at most 60 of the characters a-z, A-Z, 0-9 and -"
_WORKLOAD_TAG_RULE = "1 to 63 letters, digits, -, _ and ., with a letter or a digit at both ends"

CHECKS = (
    Check("*", "a field of that request", _EXPORT, _unknown_names),
    Check("expression", "an object", _EXPORT, _expression),
    Check("*ExportOptions", "exactly one of those that this kind of export has", _EXPORT, _export_options),
    Check(
        "*Destination",
        "exactly one in the export options, with its bucket, its asset's name or its table",
        _REFERENCE + "CloudStorageDestination",
        _destination,
    ),
    Check("imageManifest, tableManifest", "an object with an asset's name", _REFERENCE + "ImageManifest", _manifest),
    Check(
        "description",
        f"at most {_LONGEST_DESCRIPTION} characters",
        "https://github.com/nasaharvest/cropharvest/pull/60",  # Users report it; no page documents it.
        _description,
    ),
    Check("maxPixels", "an integer above 0", _EXPORT, _integer("maxPixels", "Int64Value", 1, 2**63 - 1)),
    Check(
        "maxVertices",
        "an integer from 0",
        _REFERENCE + "projects.table/export",
        _integer("maxVertices", "Int32Value", 0, 2**31 - 1),
    ),
    Check(
        "priority",
        f"an integer from 0 to {_HIGHEST_PRIORITY}",
        _EXPORT,
        _integer("priority", "Int32Value", 0, _HIGHEST_PRIORITY),
    ),
    Check("requestId", _REQUEST_ID_RULE, _EXPORT, _text("requestId", _REQUEST_ID, _REQUEST_ID_RULE)),
    Check(
        "workloadTag",
        _WORKLOAD_TAG_RULE,
        "https://developers.google.com/earth-engine/apidocs/ee-data-setworkloadtag",
        _text("workloadTag", _WORKLOAD_TAG, _WORKLOAD_TAG_RULE),
    ),
)
