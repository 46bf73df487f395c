"""Which variables the sandbox reads: its own, and those of single vendors. Nothing of the sandbox itself is imported here."""

from __future__ import annotations

from pydantic_settings import BaseSettings

from covergate.sandbox.settings import SandboxSettings
from covergate.sandbox.vsee_settings import VSeeSandboxSettings

SANDBOX_SETTINGS: tuple[type[BaseSettings], ...] = (SandboxSettings, VSeeSandboxSettings)
