"""A vendor as one frozen value: facts, plus generators that yield HTTP calls and return progress.

Nothing in a vendor's folder does I/O or sees a session, a row or a client. A fact is stated once; what follows from it
(`recovery`, `takes_batches`, `required_fields`) is derived here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cache, cached_property
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic_settings import SettingsConfigDict

from covergate.eligibility.inquiry import Inquiry, pointers_beside
from covergate.outbound.client import HttpAuth
from covergate.secret_files import FromFiles
from covergate.states import Environment
from covergate.vendors.event import Inbound, VendorEvent
from covergate.vendors.flow import Call, CheckFlow, FindFlow, Flow, Missing, PayersFlow, ProbeFlow, Question, Reply


class Connection(FromFiles):
    """How one vendor is reached.

    Subclasses set `model_config = SettingsConfigDict(env_prefix="COVERGATE_<NAME>_")`, which pydantic merges with this one,
    and add credential fields that default to "".
    """

    model_config = SettingsConfigDict(
        extra="ignore", frozen=True, env_file=".env", env_ignore_empty=True, hide_input_in_errors=True
    )
    required: ClassVar[tuple[str, ...]] = ()
    """Names of the fields without which the vendor is not enabled for live mode."""
    of_operator: ClassVar[tuple[str, ...]] = ("poll_seconds",)
    """Fields that are the operator's to choose in a tenant's own account, too."""
    of_environment: ClassVar[Mapping[Environment, Mapping[str, str]]] = {}
    """Fields of a tenant's own account that follow from its environment."""

    base_url: str = ""
    shared: bool | None = None
    """Whether tenants without an account of their own use this one; None: unless the vendor keeps patients."""

    @classmethod
    def sandbox(cls, url: str, secret: str) -> Connection:
        """The connection of test mode. `url` is the sandbox's address; its credentials derive from `secret`."""
        raise NotImplementedError

    @property
    def complete(self) -> bool:
        return bool(self.base_url) and all(getattr(self, name) for name in self.required)


class NamesRecord:
    """Marks an option that names a record of the vendor's account: a patient, a policy, a provider.

    On an account that several tenants share such an option could name another tenant's record, so it is refused there.
    """


class Options(BaseModel):
    """A vendor's own block in `vendor_options`; subclasses list the fields.

    A field that names a record of the account is marked: `user_id: Annotated[str | None, NamesRecord()] = None`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @property
    def named_records(self) -> tuple[str, ...]:
        """The options given here that name a record of the account."""
        return tuple(name for name in record_names(type(self)) if getattr(self, name) is not None)


@cache
def record_names(options: type[Options]) -> tuple[str, ...]:
    """The options of this block that name a record of the account."""
    return tuple(
        name
        for name, option in options.model_fields.items()
        if any(isinstance(mark, NamesRecord) for mark in option.metadata)
    )


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
    """Facts that only the vendor's documents can tell; `GET /v1/vendors` and docs/vendors.md show them.

    `typical_wait_seconds` is (median, slow). `benefits_detail` says in one line which benefits the vendor states.
    """

    answers_by: tuple[AnswersBy, ...]
    typical_wait_seconds: tuple[float, float]
    service_dates: ServiceDates
    dependents: bool
    secondary_coverage: bool
    benefits_detail: str


@dataclass(frozen=True, slots=True)
class Required:
    """Something a vendor needs beyond the common rules, checked before anything is sent.

    A 422 names `pointer`, into the request, and says `message`, or just that the vendor needs it. `is_missing` is given the
    inquiry, the vendor's options and its codes for the payer; without it the inquiry must have a value at `pointer`.
    `GET /v1/vendors` lists the pointer, or `words` for a conditional rule; `is_listed` is false for a rule that no ordinary
    request can break.
    """

    pointer: str
    is_missing: Callable[[Inquiry, Any, Mapping[str, str]], bool] | None = None
    message: str | None = None
    words: str | None = None
    is_listed: bool = True

    def is_missing_from(self, inquiry: Inquiry, options: Any, payer_codes: Mapping[str, str]) -> bool:
        if self.is_missing is None:
            return value_at(inquiry, self.pointer) is None
        return self.is_missing(inquiry, options, payer_codes)


def value_at(inquiry: Inquiry, pointer: str) -> Any:
    """The inquiry's field at a JSON pointer, None if it or what it belongs to is not given."""
    value: Any = inquiry
    for name in pointer.split("/")[1:]:
        value = getattr(value, name, None)
    return value


@dataclass(frozen=True, slots=True)
class Batching:
    """How a vendor takes many submissions in one call.

    Committing calls to `path` that are ready within `wait` of each other are joined, at most `limit`, and the one reply is
    split again: element i belongs to calls[i]. None means that this row was not to blame for a refusal of the whole and
    is sent again.
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
    authenticate: Callable[[Any], HttpAuth]
    """The auth flow for a connection; see `vendors/auth.py`."""
    submit: Callable[[Question], Flow]
    check: Callable[[Question, str], CheckFlow] | None = None
    """Looks again under the reference. `NotFound` if looking further is of no use: an operator decides, proven or not."""
    ref_shape: re.Pattern[str] = re.compile(r"[!-~]{1,200}")
    """Of its references, for one that a person types; `ref_words` says it in words."""
    ref_words: str = "1 to 200 visible ASCII characters"
    find: Callable[[Question], FindFlow] | None = None
    """Looks a submission up whose reply was lost."""
    find_delay: timedelta = timedelta(seconds=0)
    """How long after a submission a look-up can still miss it."""
    options: type[Options] = Options
    required: tuple[Required, ...] = ()
    asks: tuple[str, ...] = ()
    """JSON pointers into the inquiry of what this vendor has a place for; a test compares them with its calls."""
    not_asked_of: Callable[[Inquiry, date], frozenset[str]] = lambda inquiry, today: frozenset()
    """What it has no place for in this inquiry, e.g. `/service/service_type_codes/1`."""
    default_deadline: Callable[[Question], datetime] | None = None
    """The deadline of a request that names none; None for 24 hours."""
    secrets: frozenset[str] = frozenset({"access_token", "refresh_token", "token", "api_key", "client_secret"})
    """JSON keys whose values are redacted before an exchange is stored."""
    verify_event: Callable[[Inbound, Any], None] | None = None
    """Raises `ForgedEvent`; given the raw bytes and the connection."""
    read_event: Callable[[Inbound], Sequence[VendorEvent]] | None = None
    batching: Batching | None = None
    record_of: Callable[[Question], str] | None = None
    """What names the patient's record that a check makes, writes and reads: its checks run one after the other, since a second
    one would overwrite the first's data, or make the record again. None if the vendor keeps no records."""
    calls_per_second: float | None = None
    """The rate that the vendor allows, for all our processes together; None if it states none."""
    concurrent_steps: int = 100
    """Steps of its verifications that are worked on at once, by all our processes together."""
    list_payers: Callable[[Any], PayersFlow] | None = None
    probe: Callable[[Any], ProbeFlow] | None = None
    """Tries a connection's credentials with a call that commits nothing and concerns no patient."""
    keeps_patients: bool = False
    """The vendor keeps records of patients that whoever has the account can read."""
    base_urls: Mapping[Environment, tuple[str, ...]] = field(default_factory=dict)
    """The addresses that the vendor's documents give, the usual one first; `*` stands for one label of a name."""

    @property
    def recovery(self) -> Recovery:
        """An event counts because it carries our id of the submission; a test holds every vendor to that."""
        if self.find is not None:
            return Recovery.LOOKUP
        return Recovery.OPERATOR if self.read_event is None else Recovery.EVENT

    @property
    def takes_batches(self) -> bool:
        return self.batching is not None

    @property
    def required_fields(self) -> tuple[str, ...]:
        """JSON pointers into the request, in words for a conditional rule, as `GET /v1/vendors` lists them."""
        return tuple(dict.fromkeys(rule.words or rule.pointer for rule in self.required if rule.is_listed))

    def missing_fields(self, inquiry: Inquiry, options: Any, payer_codes: Mapping[str, str]) -> list[Missing]:
        """Everything this vendor needs and the request lacks."""
        return [
            Missing(rule.pointer, rule.message or f"must be given: {self.title} needs it")
            for rule in self.required
            if rule.is_missing_from(inquiry, options, payer_codes)
        ]

    @cached_property
    def no_options(self) -> Options:
        """For a request that has no block of this vendor's."""
        return self.options()

    @cached_property
    def not_asked(self) -> frozenset[str]:
        """What this vendor has no place for, whatever the inquiry."""
        return pointers_beside(self.asks)

    def asked_nothing_of(self, inquiry: Inquiry, today: date) -> frozenset[str]:
        """The complete `not_asked` of a verification."""
        return self.not_asked | self.not_asked_of(inquiry, today)
