"""The sandbox's address, the pace of its vendors and the target of their webhooks.

Invariant: every credential and webhook secret of the sandbox derives from `secret`, so the gateway can compute the same
ones without a line of shared code.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from covergate.secret_files import FromFiles


class SandboxSettings(FromFiles):
    """Environment variables, and lines of `.env`, with the prefix `COVERGATE_SANDBOX_`; a vendor's own stand in its file."""

    model_config = SettingsConfigDict(
        env_prefix="COVERGATE_SANDBOX_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    secret: str = Field(min_length=1, repr=False)
    """The client secrets, passwords and webhook keys of all simulated vendors are this value or derive from it."""
    gateway_url: str = "http://127.0.0.1:8000"
    """Webhooks are POSTed to `<gateway_url>/v1/vendor-events/<vendor>`."""
    delay_seconds: float = Field(default=1.0, ge=0)
    """The time a vendor works on an answer."""
    rate_limit_seconds: int = Field(default=1, ge=0)
    """The `Retry-After` of a 429."""
    host: str = "127.0.0.1"
    port: int = Field(default=8001, ge=0, le=65535)
