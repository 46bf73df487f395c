"""`.env.example` names every variable the code reads and no other, each with the code's own default."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from covergate import vendors
from covergate.sandbox.variables import SANDBOX_SETTINGS
from covergate.settings import Settings

EXAMPLE = Path(__file__).parents[1] / ".env.example"

SHOWN_EMPTY = {"COVERGATE_DATA_DIR", "COVERGATE_INTEGREX_POLL_SECONDS"}
"""Their defaults depend on more than the variable."""


def test_every_variable_is_there_with_its_default() -> None:
    assert _written() == {name: _default(name, field) for name, field in _fields().items()}


def test_every_variable_has_a_comment_above_its_block() -> None:
    blocks = EXAMPLE.read_text().split("\n\n")
    assert all(block.startswith("#") for block in blocks)


def _written() -> dict[str, str]:
    found = re.findall(r"^(COVERGATE_\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE)
    names = [name for name, _ in found]
    assert len(names) == len(set(names))
    return dict(found)


def _fields() -> dict[str, FieldInfo]:
    # The folders, not the registry: a vendor's variables are there from its first day.
    packages = [
        importlib.import_module(f"covergate.vendors.{m.name}")
        for m in pkgutil.iter_modules(vendors.__path__)
        if m.ispkg
    ]
    owners: list[type[BaseSettings]] = [
        Settings,
        *SANDBOX_SETTINGS,
        *(package.VENDOR.connection for package in packages),
    ]
    return {
        f"{owner.model_config['env_prefix']}{name}".upper(): field
        for owner in owners
        for name, field in owner.model_fields.items()
    }


def _default(name: str, field: FieldInfo) -> str:
    if name in SHOWN_EMPTY or field.default is None or field.is_required():
        return ""
    if isinstance(field.default, tuple):
        return ",".join(map(str, field.default))
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
