"""How VSee is reached: account code, key and secret, and an administrator's token, all in headers."""

from __future__ import annotations

import hashlib
import math
import string
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from covergate.vendors.auth import HeaderAuth
from covergate.vendors.vendor import Connection

FEWEST_BITS = 128
"""Of the callback token: it is all that tells an event of VSee's from a forged one."""
FEWEST_CHARACTERS = 8
"""Different ones. Of 22 random characters fewer come up about never; a typed pattern has a handful."""

_ALPHABETS = (
    string.digits,
    f"{string.digits}abcdef",
    f"{string.digits}ABCDEF",
    f"{string.digits}{string.ascii_letters}-_",
)


def _unguessable(token: str) -> str:
    """Its length is taken for its bits: four for each character of hex, six for each of base64url."""
    size = next((len(alphabet) for alphabet in _ALPHABETS if set(token) <= set(alphabet)), 0)
    if token and (not size or len(token) * math.log2(size) < FEWEST_BITS or len(set(token)) < FEWEST_CHARACTERS):
        raise ValueError("not 128 random bits")
    return token


class VSeeConnection(Connection):
    """`base_url` is "to be advised by VSee" and ends in `/api_v3`. `api_token` is an administrator's.

    `poll_seconds` is the wait before each check of the first three minutes. Without a callback token every event is refused,
    and polling answers; a token of less than 128 bits is no possible value. `insurances_path` is `/insurances/` in one place of
    VSee's page and `/insurance/` in another. `insurance_fields`: how `POST /me` takes the insurance, `flat` as the page lists its
    fields, `nested` as the record is read back.
    """

    model_config = SettingsConfigDict(env_prefix="COVERGATE_VSEE_")
    of_operator: ClassVar[tuple[str, ...]] = ("poll_seconds", "insurances_path", "insurance_fields")
    required: ClassVar[tuple[str, ...]] = ("account_code", "api_key", "api_secret", "api_token")

    account_code: str = ""
    api_key: str = Field(default="", repr=False)
    api_secret: str = Field(default="", repr=False)
    api_token: str = Field(default="", repr=False)
    callback_token: Annotated[str, AfterValidator(_unguessable)] = Field(default="", repr=False)
    poll_seconds: float = Field(default=10.0, ge=0)
    insurances_path: str = "/insurances/"
    insurance_fields: Literal["flat", "nested"] = "flat"

    @classmethod
    def sandbox(cls, url: str, secret: str) -> VSeeConnection:
        return cls(
            base_url=f"{url.rstrip('/')}/vsee/api_v3",
            account_code="sandbox",
            api_key="sandbox",
            api_secret=secret,
            api_token=secret,
            callback_token=hashlib.sha256(f"{secret}:vsee".encode()).hexdigest(),
            poll_seconds=1,
        )


def authenticate(connection: VSeeConnection) -> HeaderAuth:
    """Key and secret open `POST /users/sso`, the administrator's token the rest; `POST /me` goes with the user's own."""
    return HeaderAuth(
        {
            "X-AccountCode": connection.account_code,
            "X-ApiKey": connection.api_key,
            "X-ApiSecret": connection.api_secret,
            "X-ApiToken": connection.api_token,
        }
    )
