"""Trying again with tenacity, entered only where the first try failed: its bookkeeping costs as much as a short call itself.

Only for what had no effect, or what may be done twice; every longer wait is a job.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception
from tenacity.stop import stop_base
from tenacity.wait import wait_base

T = TypeVar("T")


async def retrying(
    call: Callable[[], Awaitable[T]], *, when: Callable[[BaseException], bool], stop: stop_base, wait: wait_base
) -> T:
    """What `call` returns, called again for as long as `when` holds for its error and `stop` does not; then that error."""
    failed: Exception | None = None
    try:
        return await call()
    # Nothing narrower will do: which errors are worth it is the caller's to say.
    except Exception as error:
        if not when(error):
            raise
        failed = error
    tries = AsyncRetrying(retry=retry_if_exception(when), stop=stop, wait=wait, reraise=True)

    async def again() -> T:
        nonlocal failed
        if failed is not None:
            first, failed = failed, None
            raise first  # so that tenacity counts it, and waits after it
        return await call()

    return await tries(again)
