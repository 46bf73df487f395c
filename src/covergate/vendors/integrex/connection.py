"""How Integrex is reached: OAuth client credentials by HTTP Basic or in the form, and a switch for dummy answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from covergate.states import Environment
from covergate.vendors.auth import TokenAuth, VendorAuth
from covergate.vendors.vendor import Connection

_SANDBOX_POLL_SECONDS = 1.0
"""The sandbox need not be spared the 15 seconds that Integrex asks for."""


class IntegrexConnection(Connection):
    """`env` "T" asks for dummy answers. `auth` says how the client's secret is sent for a token."""

    model_config = SettingsConfigDict(env_prefix="COVERGATE_INTEGREX_")
    required: ClassVar[tuple[str, ...]] = ("client_id", "client_secret")
    of_environment: ClassVar[Mapping[Environment, Mapping[str, str]]] = {
        Environment.SANDBOX: {"env": "T"},
        Environment.PRODUCTION: {"env": ""},
    }

    base_url: str = "https://api.integrexrcm.com:53443"
    client_id: str = ""
    client_secret: str = Field(default="", repr=False)
    auth: Literal["basic", "form"] = "basic"
    env: Literal["", "T"] = ""
    poll_seconds: float = Field(default=15.0, ge=0)

    @classmethod
    def sandbox(cls, url: str, secret: str) -> IntegrexConnection:
        chosen = cls()
        return cls(
            base_url=f"{url}/integrex",
            client_id="sandbox",
            client_secret=secret,
            env="T",
            poll_seconds=chosen.poll_seconds if "poll_seconds" in chosen.model_fields_set else _SANDBOX_POLL_SECONDS,
        )


def authenticate(connection: IntegrexConnection) -> TokenAuth:
    """Integrex's 402 is "Authentication Error", not payment."""
    return TokenAuth(
        f"{connection.base_url.rstrip('/')}/api/v2/auth",
        sends=connection.auth,
        identity=connection.client_id,
        secret=connection.client_secret,
        refused=VendorAuth.refused | {402},
    )
