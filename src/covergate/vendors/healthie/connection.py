"""How Healthie is reached: an API key, and a shard if Healthie named one."""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from covergate.outbound.client import HttpAuth
from covergate.vendors.auth import HeaderAuth
from covergate.vendors.healthie.graphql import GRAPHQL_PATH
from covergate.vendors.vendor import Connection


class HealthieConnection(Connection):
    """`base_url` may be given with or without `/graphql`. `shard` is empty unless Healthie named one."""

    model_config = SettingsConfigDict(env_prefix="COVERGATE_HEALTHIE_")
    required: ClassVar[tuple[str, ...]] = ("api_key",)

    base_url: Annotated[str, AfterValidator(lambda url: url.rstrip("/").removesuffix(GRAPHQL_PATH))] = (
        "https://api.gethealthie.com"
    )
    api_key: str = Field(default="", repr=False)
    shard: str = ""
    provider_id: str = ""
    """The provider that new patients belong to; blank for the key's own user."""
    accepted_only: bool = False
    """Whether a plan that the organization does not accept is refused before the check that costs."""
    webhook_secret: str = Field(default="", repr=False)

    @classmethod
    def sandbox(cls, url: str, secret: str) -> HealthieConnection:
        return cls(
            base_url=f"{url.rstrip('/')}/healthie",
            api_key=secret,
            shard="",
            provider_id="",
            accepted_only=False,
            webhook_secret="whsec_" + hashlib.sha256(f"{secret}:healthie".encode()).hexdigest(),
        )


def authenticate(connection: HealthieConnection) -> HttpAuth:
    """The key follows the word Basic as it is, not as base64 of a user name and a password."""
    headers = {"Authorization": f"Basic {connection.api_key}", "AuthorizationSource": "API"}
    if connection.shard:
        headers["AuthorizationShard"] = connection.shard
    return HeaderAuth(headers)
