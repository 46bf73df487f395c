"""How Sohar is reached: client credentials in JSON for a bearer token."""

from __future__ import annotations

import base64
import hashlib
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from covergate.vendors.auth import TokenAuth
from covergate.vendors.vendor import Connection


class SoharConnection(Connection):
    """`poll_seconds` is the first wait; later ones grow to 30 minutes.

    Without a webhook secret every event is refused, and polling answers.
    """

    model_config = SettingsConfigDict(env_prefix="COVERGATE_SOHAR_")
    required: ClassVar[tuple[str, ...]] = ("client_id", "client_secret")
    of_operator: ClassVar[tuple[str, ...]] = ("poll_seconds", "payers_path")

    base_url: str = "https://api.soharhealth.com"
    client_id: str = ""
    client_secret: str = Field(default="", repr=False)
    webhook_secret: str = Field(default="", repr=False)
    poll_seconds: float = Field(default=2.0, ge=0)
    payers_path: str = Field(default="/v1/payers", pattern="^/")
    """Of the payer list, which no page shows."""

    @classmethod
    def sandbox(cls, url: str, secret: str) -> SoharConnection:
        key = hashlib.sha256(f"{secret}:sohar".encode()).digest()
        return cls(
            base_url=f"{url}/sohar",
            client_id="sandbox",
            client_secret=secret,
            webhook_secret="whsec_" + base64.b64encode(key).decode(),
        )


def authenticate(connection: SoharConnection) -> TokenAuth:
    """A bad token is answered 403 ("described as unauthorised"), perhaps 401."""
    return TokenAuth(
        f"{connection.base_url.rstrip('/')}/oauth/token",
        sends="json",
        identity=connection.client_id,
        secret=connection.client_secret,
    )
