"""Waiting for a condition, never for a time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(
    condition: Callable[[], Awaitable[T | None]], seconds: float = ..., *, what: str = ..., every: float = ...
) -> T: ...
@overload
async def eventually(
    condition: Callable[[], T | None], seconds: float = ..., *, what: str = ..., every: float = ...
) -> T: ...
async def eventually(
    condition: Callable[[], object], seconds: float = 20, *, what: str = "a condition", every: float = 0.01
) -> object:
    """The condition's first true value. It may be a coroutine function; `every` is in seconds, 0 for each turn of the loop."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                value = condition()
                if inspect.isawaitable(value):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(every)
    except TimeoutError as error:
        raise AssertionError(f"{what}: not within {seconds} s") from error
