"""A vendor's account: whose credentials a call is made with. The gateway's own is shared; a tenant may have its own.

Invariant: what is bound to one account (a submission, a token, a circuit, an event) never meets another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from covergate.states import Environment
from covergate.vendors.vendor import Connection, Vendor

SHARED = ""
"""The id of the gateway's own account, in every column and key."""

ENVIRONMENT_OF: Mapping[str, Environment] = {"live": Environment.PRODUCTION, "test": Environment.SANDBOX}
"""Mode → the environment of its accounts: a test key never uses a production account, nor a live key a sandbox's."""


@dataclass(frozen=True, slots=True)
class VendorAccount:
    """`id` is `SHARED` for the gateway's own, which belongs to no tenant. `version` changes with the credentials."""

    id: str
    tenant_id: str | None
    vendor: str
    mode: str
    connection: Connection = field(repr=False)
    version: object = None


class AccountBook:
    """The tenants' own accounts as this process knows them: looked up without a round trip.

    `access.vendor_accounts` fills it; until then it is not `loaded`, and who has an account of its own is not known.
    `refreshing` keeps an older look at the database from overwriting a newer one.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, VendorAccount] = {}
        self._by_owner: dict[tuple[str, str, str], VendorAccount] = {}
        self._unusable: dict[str, tuple[str, str, str]] = {}
        self.loaded = False
        self.refreshing = asyncio.Lock()

    def __iter__(self) -> Iterator[VendorAccount]:
        return iter(self._by_id.values())

    def owned_by(self, tenant_id: str, mode: str, vendor: str) -> VendorAccount | None:
        return self._by_owner.get((tenant_id, mode, vendor))

    def by_id(self, account_id: str) -> VendorAccount | None:
        return self._by_id.get(account_id)

    def is_usable(self, tenant_id: str, mode: str, vendor: str) -> bool:
        """False if the tenant has an account there that does not open: then no other takes its place."""
        return (tenant_id, mode, vendor) not in self._unusable.values()

    def knows(self, account_id: str) -> bool:
        """It is there, if it opens or not."""
        return account_id in self._by_id or account_id in self._unusable

    def replace(
        self, accounts: Iterable[VendorAccount], unusable: Mapping[str, tuple[str, str, str]] | None = None
    ) -> None:
        """These are all there are. `unusable`: id → tenant, mode and vendor of those that do not open."""
        self.loaded = True
        self._unusable = dict(unusable or {})
        self._by_id = {account.id: account for account in accounts}
        self._by_owner = {
            (account.tenant_id, account.mode, account.vendor): account
            for account in self._by_id.values()
            if account.tenant_id is not None
        }


@cache
def account_fields(kind: type[Connection]) -> tuple[str, ...]:
    """The fields that a tenant gives for an account of its own, `base_url` first."""
    by_environment = {name for fields in kind.of_environment.values() for name in fields}
    not_given = {"shared", *kind.of_operator, *by_environment}
    return tuple(name for name in kind.model_fields if name not in not_given)


def secret_fields(kind: type[Connection]) -> tuple[str, ...]:
    """Those of them that no repr shows."""
    return tuple(name for name in account_fields(kind) if not kind.model_fields[name].repr)


def connection_of_account(
    vendor: Vendor, environment: Environment, given: Mapping[str, str], operators: Connection
) -> Connection:
    """The connection with the given fields and no other source: nothing of the process's environment is in it but the
    pace that the operator chose (`of_operator`). Raises pydantic's ValidationError.
    """
    kind = vendor.connection
    values: dict[str, Any] = {name: value for name, value in given.items() if value}
    if "base_url" not in values and (usual := usual_base_url(vendor, environment)) is not None:
        values["base_url"] = usual
    values |= {name: getattr(operators, name) for name in kind.of_operator if name in kind.model_fields}
    values |= kind.of_environment.get(environment, {})
    return _alone(kind)(**values)


def usual_base_url(vendor: Vendor, environment: Environment) -> str | None:
    """The address that an account has unless it names one."""
    return next((url for url in vendor.base_urls.get(environment, ()) if "*" not in url), None)


def _given_only(
    cls: type[Connection],
    /,
    settings_cls: type[BaseSettings],
    init_settings: PydanticBaseSettingsSource,
    **_: PydanticBaseSettingsSource,
) -> tuple[PydanticBaseSettingsSource, ...]:
    return (init_settings,)


@cache
def _alone(kind: type[Connection]) -> type[Connection]:
    """The same connection read from its arguments alone: no environment, no `.env`."""
    body = {
        "__module__": kind.__module__,
        "model_config": SettingsConfigDict(extra="forbid"),
        "settings_customise_sources": classmethod(_given_only),
    }
    return type(f"Tenants{kind.__name__}", (kind,), body)
