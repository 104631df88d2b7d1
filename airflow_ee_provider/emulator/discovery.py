"""The description of the API that the official client reads when it starts.

It has the methods that the client calls; a test compares them. Each has its page below
https://developers.google.com/earth-engine/reference/rest/v1.
"""

from __future__ import annotations

import re
from typing import Any

#: Collection and method below ``projects``, HTTP method, path below the version, parameters of the query.
METHODS = """
getConfig                     GET    {name=projects/*/config}
updateConfig                  PATCH  {name=projects/*/config}                          updateMask
listAssets                    GET    {parent=projects/*}:listAssets                    pageSize pageToken
algorithms.list               GET    {parent=projects/*}/algorithms
assets.copy                   POST   {sourceName=projects/*/assets/**}:copy
assets.create                 POST   {parent=projects/*}/assets                        assetId overwrite
assets.delete                 DELETE {name=projects/*/assets/**}
assets.get                    GET    {name=projects/*/assets/**}
assets.getIamPolicy           POST   {resource=projects/*/assets/**}:getIamPolicy
assets.getPixels              POST   {name=projects/*/assets/**}:getPixels
assets.listAssets             GET    {parent=projects/*/assets/**}:listAssets          filter pageSize pageToken view
assets.listFeatures           GET    {asset=projects/*/assets/**}:listFeatures         filter pageSize pageToken region
assets.move                   POST   {sourceName=projects/*/assets/**}:move
assets.patch                  PATCH  {name=projects/*/assets/**}
assets.setIamPolicy           POST   {resource=projects/*/assets/**}:setIamPolicy
assets.testIamPermissions     POST   {resource=projects/*/assets/**}:testIamPermissions
classifier.export             POST   {project=projects/*}/classifier:export
featureView.create            POST   {parent=projects/*}/featureView
filmstripThumbnails.create    POST   {parent=projects/*}/filmstripThumbnails           workloadTag
filmstripThumbnails.getPixels GET    {name=projects/*/filmstripThumbnails/*}:getPixels
image.computePixels           POST   {project=projects/*}/image:computePixels
image.export                  POST   {project=projects/*}/image:export
image.import                  POST   {project=projects/*}/image:import
image.importExternal          POST   {project=projects/*}/image:importExternal
imageCollection.computeImages POST   {project=projects/*}/imageCollection:computeImages
map.export                    POST   {project=projects/*}/map:export
maps.create                   POST   {parent=projects/*}/maps                          workloadTag
maps.tiles.get                GET    {parent=projects/*/maps/*}/tiles/{zoom}/{x}/{y}
operations.cancel             POST   {name=projects/*/operations/**}:cancel
operations.delete             DELETE {name=projects/*/operations/**}
operations.get                GET    {name=projects/*/operations/**}
operations.list               GET    {name=projects/*}/operations                      filter pageSize pageToken
operations.wait               POST   {name=projects/*/operations/**}:wait
table.computeFeatures         POST   {project=projects/*}/table:computeFeatures
table.export                  POST   {project=projects/*}/table:export
table.import                  POST   {project=projects/*}/table:import
tables.create                 POST   {parent=projects/*}/tables                        workloadTag
thumbnails.create             POST   {parent=projects/*}/thumbnails                    workloadTag
thumbnails.getPixels          GET    {name=projects/*/thumbnails/*}:getPixels
value.compute                 POST   {project=projects/*}/value:compute
video.export                  POST   {project=projects/*}/video:export
videoMap.export               POST   {project=projects/*}/videoMap:export
videoThumbnails.create        POST   {parent=projects/*}/videoThumbnails               workloadTag
videoThumbnails.getPixels     GET    {name=projects/*/videoThumbnails/*}:getPixels
"""

#: Parameters that each method has.
_COMMON = ("alt", "fields", "key", "prettyPrint", "quotaUser", "$.xgafv")
_INTEGERS = ("pageSize", "x", "y", "zoom")

#: `{name=projects/*/operations/**}`, or `{zoom}`.
_IN_PATH = re.compile(r"\{(?P<name>\w+)(?:=(?P<template>[^}]+))?\}")


def discovery_document(origin: str) -> dict[str, Any]:
    """Return the API's description, with this server's address, in the version that the client uses."""
    api: dict[str, Any] = {}
    for line in METHODS.strip().splitlines():
        name, http_method, path, *query = line.split()
        *collections, method = f"projects.{name}".split(".")
        resource = api
        for collection in collections:
            resource = resource.setdefault("resources", {}).setdefault(collection, {})
        resource.setdefault("methods", {})[method] = _method(f"earthengine.projects.{name}", http_method, path, query)
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": "earthengine:v1",
        "name": "earthengine",
        "version": "v1",
        "protocol": "rest",
        "rootUrl": f"{origin}/",
        "baseUrl": f"{origin}/",
        "servicePath": "",
        "batchPath": "batch",
        "parameters": {common: {"type": "string", "location": "query"} for common in _COMMON},
        # Of a response's schema, the client only reads whether there can be a next page.
        "schemas": {
            "Any": {"id": "Any", "type": "object"},
            "Page": {"id": "Page", "type": "object", "properties": {"nextPageToken": {"type": "string"}}},
        },
        **api,
    }


def _method(name: str, http_method: str, path: str, query: list[str]) -> dict[str, Any]:
    in_path = {found["name"]: found["template"] for found in _IN_PATH.finditer(path)}
    parameters = {parameter: _parameter(parameter, "query") for parameter in query}
    for parameter, template in in_path.items():
        pattern = {"pattern": _pattern(template)} if template else {}
        parameters[parameter] = {**_parameter(parameter, "path"), "required": True, **pattern}
    method: dict[str, Any] = {
        "id": name,
        "httpMethod": http_method,
        "path": "v1/" + _IN_PATH.sub(lambda found: f"{{{'+' if found['template'] else ''}{found['name']}}}", path),
        "parameters": parameters,
        "parameterOrder": list(in_path),
        "response": {"$ref": "Page" if "pageToken" in query else "Any"},
    }
    return method | ({"request": {"$ref": "Any"}} if http_method in ("POST", "PATCH") else {})


def _parameter(name: str, location: str) -> dict[str, Any]:
    return {"type": "integer" if name in _INTEGERS else "string", "location": location}


def _pattern(template: str) -> str:
    """Return the regular expression of a path such as ``projects/*/operations/**``."""
    return "^" + template.replace("**", ".+").replace("*", "[^/]+") + "$"
