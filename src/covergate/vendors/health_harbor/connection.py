"""How Health Harbor is reached: user name and password, for a token that lives a day or as HTTP Basic."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from covergate.outbound.client import HttpAuth
from covergate.vendors.auth import HeaderAuth, TokenAuth
from covergate.vendors.health_harbor.options import BenefitsQuery
from covergate.vendors.vendor import Connection


def _queries(listed: str) -> str:
    """Names of `BenefitsQuery` with commas between them."""
    for name in filter(None, listed.split(",")):
        BenefitsQuery(name.strip())
    return listed


class HealthHarborConnection(Connection):
    """`username` and `password` are the project id and the API key; both schemes take them.

    `poll_seconds` is the wait before the first check and grows to twelve times itself. `benefits_query` lists the queries that
    the account has agreed on with Health Harbor, with commas; blank: the gateway chooses.
    """

    model_config = SettingsConfigDict(env_prefix="COVERGATE_HEALTH_HARBOR_")
    required: ClassVar[tuple[str, ...]] = ("username", "password")

    base_url: str = "https://healthharbor.co"
    auth: Literal["token", "basic"] = "token"
    username: str = ""
    password: str = Field(default="", repr=False)
    webhook_secret: str = Field(default="", repr=False)
    poll_seconds: float = Field(default=300, ge=0)
    benefits_query: Annotated[str, AfterValidator(_queries)] = ""

    @property
    def usual_queries(self) -> tuple[BenefitsQuery, ...]:
        return tuple(BenefitsQuery(name.strip()) for name in self.benefits_query.split(",") if name.strip())

    @classmethod
    def sandbox(cls, url: str, secret: str) -> HealthHarborConnection:
        return cls(
            base_url=f"{url.rstrip('/')}/health_harbor",
            auth="token",
            username="sandbox",
            password=secret,
            webhook_secret=hashlib.sha256(f"{secret}:health_harbor".encode()).hexdigest(),
            poll_seconds=1,
        )


def authenticate(connection: HealthHarborConnection) -> HttpAuth:
    if connection.auth == "basic":
        return HeaderAuth.basic(connection.username, connection.password)
    return TokenAuth(
        f"{connection.base_url.rstrip('/')}/api/v0/auth/token",
        sends="password",
        identity=connection.username,
        secret=connection.password,
        lifetime=timedelta(days=1),
        margin=timedelta(minutes=10),
    )
