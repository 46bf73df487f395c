"""The API's limits: how much a key, a tenant and a source of wrong keys may do (docs/operations.md#limits)."""

from __future__ import annotations

from covergate.access import quotas
from covergate.access.credential_cache import CredentialCache
from covergate.access.guesses import Guesses
from covergate.access.quotas import (
    QuotaPolicy,
    Quotas,
    creates_policy,
    endpoint_tests_policy,
    per_second,
    searches_policy,
)
from covergate.gateway import Gateway


class Limits:
    """The policies as they are set, and the buckets of this process."""

    def __init__(self, gateway: Gateway, keys: CredentialCache) -> None:
        settings = gateway.settings
        self.quotas = Quotas(gateway)
        self._requests = per_second("requests", "requests with this API key", settings.requests_per_second)
        self._creates = creates_policy(settings)
        self._searches = searches_policy(settings)
        self._test_events = endpoint_tests_policy(settings)
        wrong_keys = QuotaPolicy("wrong_keys", "requests without a valid API key", settings.wrong_keys_per_minute, 60)
        self.guesses = Guesses(keys, self.quotas, wrong_keys)

    def request(self, api_key_id: str) -> None:
        """Raises Problem `rate_limited`, as its neighbours do."""
        self.quotas.take(self._requests, api_key_id)

    def create(self, tenant_id: str) -> None:
        self.quotas.take(self._creates, tenant_id)

    def search(self, by: str) -> None:
        """A tenant's id; an operator's uses up no tenant's."""
        self.quotas.take(self._searches, by)

    def test_event(self, tenant_id: str) -> None:
        self.quotas.take(self._test_events, tenant_id)

    def redelivery(self, tenant_id: str) -> None:
        self.quotas.take(quotas.REDELIVERIES, tenant_id)

    def account_change(self, tenant_id: str) -> None:
        self.quotas.take(quotas.ACCOUNT_CHANGES, tenant_id)
