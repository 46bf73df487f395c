"""A vendor as one frozen value: facts, plus generators that yield HTTP calls and return progress.

Nothing in a vendor's folder does I/O, sees a session, a row or a client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar

import httpx
from pydantic import BaseModel, ConfigDict
from pydantic_settings import BaseSettings, SettingsConfigDict

from covergate.eligibility.inquiry import Inquiry
from covergate.vendors.event import Inbound, VendorEvent
from covergate.vendors.flow import Call, CheckFlow, FindFlow, Flow, Missing, PayersFlow, Question, Reply


class Connection(BaseSettings):
    """How one vendor is reached. Subclasses set `model_config = SettingsConfigDict(env_prefix="COVERGATE_<NAME>_")` (pydantic
    merges it with this one) and add credential fields that default to "".
    """

    model_config = SettingsConfigDict(
        extra="ignore", frozen=True, env_file=".env", env_ignore_empty=True, hide_input_in_errors=True
    )
    required: ClassVar[tuple[str, ...]] = ()
    """Names of the fields without which the vendor is not enabled for live mode."""

    base_url: str = ""

    @classmethod
    def sandbox(cls, url: str, secret: str) -> Connection:
        """The connection of test mode. `url` is the sandbox's address, `secret` what its credentials derive from."""
        raise NotImplementedError

    @property
    def complete(self) -> bool:
        return bool(self.base_url) and all(getattr(self, name) for name in self.required)


class Options(BaseModel):
    """A vendor's block in `vendor_options`; subclasses list the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class AnswersBy(StrEnum):
    AT_ONCE = "at_once"
    POLL = "poll"
    EVENT = "event"
    PHONE_CALL = "phone_call"


class ServiceDates(StrEnum):
    ANY = "any"
    TODAY = "today"


class Recovery(StrEnum):
    """How a submission whose reply was lost is found again."""

    LOOKUP = "lookup"
    EVENT = "event"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Facts that `GET /v1/vendors` and docs/vendors.md show. `typical_wait_seconds` is (median, slow)."""

    answers_by: tuple[AnswersBy, ...]
    typical_wait_seconds: tuple[float, float]
    required_fields: tuple[str, ...]
    """JSON pointers into the inquiry, beyond what every verification needs; in words where a rule is conditional."""
    service_dates: ServiceDates
    dependents: bool
    secondary_coverage: bool
    benefits_detail: str
    """One line: what of the benefits this vendor states."""
    batch: bool
    recovery: Recovery


@dataclass(frozen=True, slots=True)
class Batching:
    """For vendors that take many submissions in one call.

    Committing calls to `path` that are ready within `wait` of each other are joined (at most `limit`) and the one reply is
    split again: element i belongs to calls[i]; None means that this row was not to blame for a refusal of the whole
    and is to be sent again.
    """

    path: str
    limit: int
    wait: timedelta
    join: Callable[[Sequence[Call]], Call]
    split: Callable[[Reply, int], Sequence[Reply | None]]


@dataclass(frozen=True)
class Vendor:
    """One vendor as one value. Only the registry in `vendors/__init__.py` lists them; core code never names one."""

    name: str
    title: str
    docs_url: str
    capabilities: Capabilities
    connection: type[Connection]
    authenticate: Callable[[Any], httpx.Auth]
    """The auth flow for a connection; see `vendors/auth.py`."""
    submit: Callable[[Question], Flow]
    check: Callable[[Question, str], CheckFlow] | None = None
    """`NotFound` when looking further is of no use: then a person decides, whether it is proven or not."""
    find: Callable[[Question], FindFlow] | None = None
    find_delay: timedelta = timedelta(seconds=0)
    """How long after a submission a look-up can miss it."""
    options: type[Options] = Options
    not_asked: frozenset[str] = frozenset()
    """JSON pointers into the inquiry of what this vendor has no place for."""
    not_asked_of: Callable[[Inquiry, date], frozenset[str]] = lambda inquiry, today: frozenset()
    """What depends on the inquiry, e.g. `/service/service_type_codes/1`; added to `not_asked`."""
    missing_fields: Callable[[Inquiry, Any, Mapping[str, str]], Sequence[Missing]] = lambda inquiry, options, codes: ()
    """What this vendor needs beyond the common rules, from inquiry, options and payer codes: checked before anything is sent."""
    default_deadline: Callable[[Question], datetime] | None = None
    """The deadline where the request names none; 24 hours for None."""
    secrets: frozenset[str] = frozenset({"access_token", "refresh_token", "token", "api_key", "client_secret"})
    """JSON keys whose values are redacted before an exchange is stored."""
    verify_event: Callable[[Inbound, Any], None] | None = None
    """Raises `ForgedEvent`; given the raw bytes and the connection."""
    read_event: Callable[[Inbound], Sequence[VendorEvent]] | None = None
    batching: Batching | None = None
    exclusive_per_patient: bool = False
    """The vendor keeps one record of a patient, which a check reads: a second open check would overwrite the first's data."""
    calls_per_second: float | None = None
    """What the vendor allows, all our processes together; None where it states nothing."""
    concurrent_steps: int = 100
    """Steps of its verifications that are worked on at once, all our processes together."""
    list_payers: Callable[[Any], PayersFlow] | None = None

    def asked_nothing_of(self, inquiry: Inquiry, today: date) -> frozenset[str]:
        """The complete `not_asked` of a verification."""
        return self.not_asked | self.not_asked_of(inquiry, today)
