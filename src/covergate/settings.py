"""The process's settings: `COVERGATE_…` variables and `.env` (.env.example has each).

Vendors' variables are theirs (`vendors.vendor.Connection`). Invariant: a wrong value is never repeated, because it may be
a secret in the wrong variable; the error names the variable and, by the field's description, what it takes.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import NoDecode, SettingsConfigDict

from covergate.errors import ConfigurationError
from covergate.secret_files import SECRETS_DIR, FromFiles

PREFIX = "COVERGATE_"


def default_data_dir() -> Path:
    """`/var/lib/covergate` for root, else `covergate` in the user's XDG data directory."""
    if os.geteuid() == 0:
        return Path("/var/lib/covergate")
    xdg = os.environ.get("XDG_DATA_HOME", "")
    return (Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".local" / "share") / "covergate"


def _database_url(url: str) -> str:
    if urlsplit(url).scheme not in {"postgresql", "postgres", "postgresql+asyncpg"}:
        raise ValueError("not a PostgreSQL URL")
    return url


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("not an HTTP URL")
    return url.rstrip("/")


def _ports(value: Any) -> Any:
    return tuple(int(port) for port in value.split(",")) if isinstance(value, str) else value


def _role(name: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise ValueError("not a role's name")
    return name


def _networks(text: str) -> str:
    """Addresses and networks with commas between them, each as it is compared: a network without bits of a host."""
    return ",".join(str(ipaddress.ip_network(network.strip())) for network in text.split(","))


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


HttpUrl = Annotated[str, AfterValidator(_http_url)]


class Settings(FromFiles):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: Annotated[str, AfterValidator(_database_url)] | None = Field(
        default=None,
        repr=False,
        description="a URL like postgresql://user:password@host:5432/database (empty: the embedded PostgreSQL)",
    )
    data_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        default_factory=default_data_dir,
        description="a directory that only CoverGate uses: the embedded PostgreSQL and its key",
    )
    public_url: HttpUrl = Field(
        default="http://127.0.0.1:8000", description="the http(s) URL under which vendors reach this gateway"
    )
    encryption_keys: SecretStr | None = Field(
        default=None,
        description='like "k2:<base64 of 32 bytes>,k1:<base64 of 32 bytes>": the first wraps, all unwrap',
    )
    encryption_keys_file: Annotated[Path, AfterValidator(Path.expanduser)] | None = Field(
        default=None, description="a file with the same, of mode 0600"
    )
    encryption_keys_command: str | None = Field(
        default=None, repr=False, description="a program with its arguments that prints the same within 30 seconds"
    )
    host: str = Field(default="127.0.0.1", description="the address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="a port number, 0 to 65535")
    trusted_proxies: Annotated[str, AfterValidator(_networks)] | None = Field(
        default=None,
        description="addresses and networks (10.0.0.0/8) of your proxies with commas between them, whose X-Forwarded-For counts",
    )
    most_connections: int = Field(default=4000, ge=1, description="connections that an API process takes, 1 or more")
    most_connections_per_address: int = Field(
        default=1000, ge=1, description="connections that an API process takes from one address, 1 or more"
    )
    requests_per_second: int = Field(
        default=10_000, ge=0, description="requests of one API key in a second, over all processes (0: any number)"
    )
    creates_per_second: int = Field(
        default=5_000,
        ge=0,
        description="verifications that a tenant creates in a second, over all processes (0: any number)",
    )
    searches_per_second: int = Field(
        default=500, ge=0, description="lists and searches of a tenant in a second, over all processes (0: any number)"
    )
    wrong_keys_per_minute: int = Field(
        default=60, ge=0, description="wrong API keys of one address in a minute, over all processes (0: any number)"
    )
    test_events_per_minute: int = Field(
        default=60, ge=0, description="test events of a tenant in a minute, over all processes (0: any number)"
    )
    most_waits: int = Field(
        default=1000,
        ge=0,
        description="requests of one API key that wait (Prefer: wait) at once, over all processes, 0 or more",
    )
    worker_host: str = Field(default="127.0.0.1", description="the address of a worker's health and metrics")
    worker_port: int = Field(
        default=0, ge=0, le=65535, description="the port of a worker's health and metrics, 0 for none, up to 65535"
    )
    log_format: Annotated[Literal["auto", "json", "console"], BeforeValidator(_lower)] = Field(
        default="auto", description="auto (console on a terminal, else json), json or console"
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        default="info", description="debug, info, warning or error"
    )
    allow_private_network: bool = Field(
        default=False, description="true or false: whether vendors and webhook endpoints may have private addresses"
    )
    allow_http_vendors: bool = Field(
        default=False, description="true or false: whether a live vendor on another machine may be reached without TLS"
    )
    allow_unverified_database: bool = Field(
        default=False,
        description="true or false: whether a database on another machine may be reached without sslmode=verify-full",
    )
    webhook_ports: Annotated[tuple[int, ...], NoDecode, BeforeValidator(_ports)] = Field(
        default=(443, 8443), description="the ports that webhook endpoints may have, with commas between them"
    )
    runtime_role: Annotated[str, AfterValidator(_role)] | None = Field(
        default=None,
        description="the PostgreSQL role of API and workers, to which `covergate migrate` grants what they need",
    )
    sandbox_url: HttpUrl | None = Field(
        default=None, description="the http(s) URL of the sandbox (empty: test mode has no vendors)"
    )
    sandbox_secret: str = Field(
        default="",
        repr=False,
        description="what the sandbox's credentials are derived from (empty, with the embedded database: one is made)",
    )
    vendor_events_per_second: float = Field(
        default=500.0,
        ge=1,
        description="events per second that are taken in from one vendor, over all processes, 1 or more",
    )
    vendor_account_urls: str | None = Field(
        default=None,
        description="base URLs with commas between them that tenants' vendor accounts may have beside the vendors' own",
    )
    vendor_order: str | None = Field(default=None, description="vendor names with commas between them, the best first")
    circuit_window_seconds: int = Field(
        default=60,
        ge=10,
        le=3600,
        description="seconds of calls that decide whether a vendor's circuit opens, 10 to 3600",
    )
    circuit_failure_rate: float = Field(
        default=0.5, gt=0, le=1, description="the share of failed calls that opens a vendor's circuit, up to 1"
    )
    circuit_least_calls: int = Field(
        default=10, ge=1, description="calls in the window below which a circuit never opens, 1 or more"
    )
    circuit_rest_seconds: float = Field(
        default=15.0, gt=0, description="the first rest of an open circuit in seconds; doubled up to 5 minutes"
    )
    history_months: int | None = Field(
        default=None,
        ge=3,
        description="months after which timelines and vendors' raw replies are deleted, 3 or more (empty: never)",
    )
    raw_days: int = Field(
        default=365,
        ge=0,
        le=36500,
        description="days after a verification's end after which the vendor's raw replies are erased, 0: never",
    )
    content_days: int = Field(
        default=0,
        ge=0,
        le=36500,
        description="days after its end after which inquiry and result are erased, 0: never",
    )
    console_idle_minutes: int = Field(
        default=15, ge=1, le=720, description="minutes without a click after which a person is signed out, 1 to 720"
    )
    console_reveal_reason: bool = Field(
        default=True, description="true or false: whether PHI is shown in the console only for a reason"
    )
    oidc_issuer: HttpUrl | None = Field(
        default=None, description="the http(s) URL of an OpenID Connect provider (empty: none signs people in)"
    )
    oidc_client_id: str | None = Field(
        default=None, description="the console's client id at the OpenID Connect provider"
    )
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="the console's client secret at the OpenID Connect provider"
    )
    oidc_groups_claim: str = Field(
        default="groups", description="the claim of the id token that lists a person's groups"
    )
    oidc_roles: str | None = Field(
        default=None,
        description='like "covergate-ops=operations,covergate-phi=phi,clinic=north:staff": group=role of operators,'
        " group=tenant:role of a tenant's people",
    )
    portal_link_minutes: int = Field(
        default=10, ge=1, le=1440, description="minutes for which a partner's portal link lets in, 1 to 1440"
    )
    worker_tasks: int = Field(default=100, ge=1, description="deliveries that a worker makes at once, 1 or more")
    api_pool_size: int = Field(default=10, ge=1, description="database connections of an API process, 1 or more")
    worker_pool_size: int = Field(default=10, ge=1, description="database connections of a worker process, 1 or more")


def load() -> Settings:
    """The settings of this process, or `ConfigurationError` with one line about everything that is wrong with them."""
    directory = os.environ.get(SECRETS_DIR)
    if directory and not Path(directory).is_dir():
        raise ConfigurationError(f"{SECRETS_DIR} must be a directory, with a file for each variable that is a secret")
    try:
        return Settings()
    except ValidationError as error:
        # Each error's first location is the field's name; a union adds more errors of the same field.
        names = dict.fromkeys(str(details["loc"][0]) for details in error.errors(include_input=False))
        problems = [f"{PREFIX}{name.upper()} must be {Settings.model_fields[name].description}" for name in names]
        raise ConfigurationError("; ".join(problems)) from None
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError("the file .env cannot be read as UTF-8 text") from None
