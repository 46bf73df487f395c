"""How the simulated VSee takes the insurance, which two pages of VSee's tell differently."""

from __future__ import annotations

from typing import Literal

from pydantic_settings import SettingsConfigDict

from covergate.sandbox.settings import SandboxSettings
from covergate.secret_files import FromFiles


class VSeeSandboxSettings(FromFiles):
    """Variables with the prefix `COVERGATE_SANDBOX_VSEE_`."""

    model_config = SettingsConfigDict({**SandboxSettings.model_config, "env_prefix": "COVERGATE_SANDBOX_VSEE_"})

    insurance_fields: Literal["flat", "nested"] = "flat"
    """The spelling in which `POST /me` takes the insurance; what comes in the other one is not stored."""
