"""The connection's form in the Airflow UI, defined once for the widgets and the fields of all Airflow versions."""

from __future__ import annotations

from typing import Any

CONNECTION_TYPE = "earth_engine"
HOOK_NAME = "Google Earth Engine"

#: Extra's name -> label, help text, and the format of its JSON schema.
_FIELDS = {
    "project": ("Project Id", "The Cloud project that runs the exports; empty for that of the credentials.", None),
    "quota_project": ("Quota Project", "The project charged for the requests, if it is another.", None),
    "key_path": ("Keyfile Path", "A service-account key or workload identity federation file.", None),
    "keyfile_dict": ("Keyfile JSON", "The content of such a file.", "password"),
    "key_secret_name": ("Keyfile Secret Name", "A secret in Google Secret Manager with such content.", None),
    "key_secret_project_id": ("Keyfile Secret Project Id", "The secret's project.", None),
    "impersonation_chain": ("Impersonation Chain", "Service accounts, comma-separated; the last one calls.", None),
    "scope": ("Scopes", "Comma-separated; empty for earthengine and cloud-platform.", None),
    "api_version": ("API Version", "v1 (default), v1beta or v1alpha.", None),
    "is_anonymous": ("Anonymous", "No credentials: only for the emulator, on this machine.", None),
}

#: The value that Airflow 2.11 treats as a secret that the user has not changed.
_PLACEHOLDER = "RATHER_LONG_SENSITIVE_FIELD_PLACEHOLDER"

_HIDDEN = ["port", "schema", "login", "password"]
_RELABELING = {"host": "Endpoint (empty for Earth Engine itself)"}
_PLACEHOLDERS = {"host": "http://127.0.0.1:8085", "project": "my-project"}


def connection_type_info() -> dict[str, Any]:
    """Return the entry of the provider info's ``connection-types`` (its fields are read from Airflow 3.2 on)."""
    return {
        "connection-type": CONNECTION_TYPE,
        "hook-class-name": "airflow_ee_provider.hooks.earth_engine.EarthEngineHook",
        "hook-name": HOOK_NAME,
        "ui-field-behaviour": {
            "hidden-fields": _HIDDEN,
            "relabeling": _RELABELING,
            "placeholders": _PLACEHOLDERS,
        },
        "conn-fields": {name: _conn_field(name, *field) for name, field in _FIELDS.items()},
    }


def _conn_field(name: str, label: str, description: str, form: str | None) -> dict[str, Any]:
    kind = "boolean" if name == "is_anonymous" else "string"
    schema: dict[str, Any] = {"type": [kind, "null"]} | ({"format": form} if form else {})
    return {"label": label, "description": description, "schema": schema}


def connection_form_widgets() -> dict[str, Any]:
    """Return the same fields as WTForms widgets, for Airflow before 3.2."""
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import BooleanField, PasswordField, StringField

    widgets: dict[str, Any] = {}
    for name, (label, description, form) in _FIELDS.items():
        text = lazy_gettext(label)
        if name == "is_anonymous":
            widgets[name] = BooleanField(text, default=False, description=description)
        elif form == "password":
            widgets[name] = PasswordField(text, widget=_kept_secret(), description=description)
        else:
            widgets[name] = StringField(text, widget=BS3TextFieldWidget(), description=description)
    return widgets


def _kept_secret() -> Any:
    """Return a password's widget for Airflow 2.11 that keeps the stored secret when a user saves the form.

    Airflow deletes an extra if its field is submitted empty, and keeps it if the field contains Airflow's placeholder.
    """
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget

    class KeptSecretWidget(BS3PasswordFieldWidget):  # type: ignore[misc]
        def __call__(self, field: Any, **kwargs: Any) -> Any:
            return super().__call__(field, **{**kwargs, "value": _PLACEHOLDER if field.data else ""})

    widget = KeptSecretWidget()  # Airflow 3.0 and 3.1 have another base class, which takes no arguments.
    widget.hide_value = False
    return widget


def ui_field_behaviour() -> dict[str, Any]:
    """Return how the form shows the standard fields, for Airflow before 3.2."""
    return {"hidden_fields": _HIDDEN, "relabeling": _RELABELING, "placeholders": _PLACEHOLDERS}
