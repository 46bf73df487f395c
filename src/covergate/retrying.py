"""Retries with tenacity, but only after a first failure: its bookkeeping costs as much as a short call.

For what had no effect or may be done twice. Longer waits are scheduled instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception
from tenacity.stop import stop_base
from tenacity.wait import wait_base

_T = TypeVar("_T")


async def retrying(
    call: Callable[[], Awaitable[_T]], *, when: Callable[[BaseException], bool], stop: stop_base, wait: wait_base
) -> _T:
    """The result of `call`, which is called again while `when` holds for its error and `stop` does not; then that error."""
    failed: Exception | None = None
    try:
        return await call()
    # Broad on purpose: which errors are worth another try is the caller's to say.
    except Exception as error:
        if not when(error):
            raise
        failed = error
    tries = AsyncRetrying(retry=retry_if_exception(when), stop=stop, wait=wait, reraise=True)

    async def again() -> _T:
        nonlocal failed
        if failed is not None:
            first, failed = failed, None
            raise first  # so that tenacity counts it, and waits after it
        return await call()

    return await tries(again)
