"""Driving a vendor's flow over the transport: send each call it yields, hand the reply back, keep every exchange.

No transaction is open while a call is under way. Right before a committing call the intent is stored; if that is refused,
somebody else is submitting or the verification ended. A submit flow ends with its committing call, so the reply and what
follows from it are recorded in one transaction. Only if our own code fails on a reply is it stored without being acted on:
`replay` interprets it again.

Invariant: of a reply that its call does not tell to be about the asked patient, only status and shape are kept.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from covergate import crash_points, ids
from covergate.outbound.send_by import SendBy
from covergate.transport.transport import Transport, redact
from covergate.vendors.account import VendorAccount
from covergate.vendors.errors import UNREADABLE, VendorBroken, VendorError
from covergate.vendors.flow import Answered, Call, Flow, Progress, Reply
from covergate.vendors.vendor import Vendor
from covergate.verifications.model import Exchange
from covergate.verifications.shape import shape_of

SEND_WITHIN = 5.0
"""Seconds between intent and sending, by either clock; past it the call is not made."""


class NotInterpreted(Exception):
    """Our own code failed while it interpreted a reply. The exchanges are kept, so that it can be done again."""


class NotOurs(Exception):
    """Somebody else is making this submission, the verification ended, or this process is: stop without a word."""


class VendorHeld(Exception):
    """An operator held the vendor since the step began: the submission is not made."""


@dataclass
class Conversation:
    """One drive of one flow."""

    transport: Transport
    vendor: Vendor
    account: VendorAccount
    tenant_id: str
    intend: Callable[[Call], Awaitable[bool]]
    """Stores the intent; False if the submission is not ours to make, or the process is being stopped."""
    pace: Callable[[], Awaitable[None]]
    """Returns when the vendor's rate limit allows one more call."""
    exchanges: list[Exchange] = field(default_factory=list)
    maybe_submitted: bool = False
    """A committing call went out and may have had an effect."""
    replied: bool = False
    """The committing call was answered."""

    async def drive(self, flow: Generator[Call, Reply, Any]) -> Any:
        """The flow's return value. Raises VendorError, NotInterpreted, NotOurs and VendorHeld."""
        try:
            call = next(flow)
            while True:
                reply = await self._send(call)
                try:
                    call = flow.send(reply)
                except UNREADABLE as error:
                    raise VendorBroken(f"unreadable reply: {type(error).__name__}", sent=True) from error
                except (StopIteration, VendorError):
                    raise
                # Broad on purpose: whatever is wrong with a flow, the reply was paid for.
                except Exception as error:
                    raise NotInterpreted from error
                if self.maybe_submitted:
                    raise NotInterpreted(f"{self.vendor.name}: a submit flow ends with its committing call")
        except StopIteration as stop:
            return stop.value
        finally:
            flow.close()

    async def _send(self, call: Call) -> Reply:
        not_after = None
        await self.pace()
        if call.commits:
            crash_points.point("before_intent")
            not_after = SendBy.within(SEND_WITHIN)
            if not await self.intend(call):
                raise NotOurs
            self.maybe_submitted = True
            crash_points.point("after_intent")
        exchange_id, started = ids.new(ids.EXCHANGE), time.monotonic()
        try:
            reply = await self.transport.send(
                self.vendor,
                self.account.mode,
                self.account.connection,
                call,
                f"/exchanges/{exchange_id}",
                account=self.account.id,
                tenant=self.tenant_id,
                not_after=not_after,
            )
        except VendorError as error:
            if error.reply is not None:
                self._keep(exchange_id, call, error.reply, started)
            if call.commits and not error.sent:
                self.maybe_submitted = False
            raise
        self._keep(exchange_id, call, reply, started)
        if call.commits:
            crash_points.point("after_reply")
            self.replied = True
            self.maybe_submitted = reply.ok
        return reply

    def _keep(self, exchange_id: str, call: Call, reply: Reply, started: float) -> None:
        whole = _is_about_patient(call, reply)
        self.exchanges.append(
            Exchange(
                id=exchange_id,
                at=reply.at,
                call=call.label,
                status=reply.status,
                content_type=reply.headers.get("content-type"),
                content=redact(reply.content, self.vendor.secrets) if whole else _withheld(reply),
                duration_ms=round((time.monotonic() - started) * 1000),
            )
        )


def _is_about_patient(call: Call, reply: Reply) -> bool:
    if call.is_about_patient is None:
        return True
    try:
        return call.is_about_patient(reply)
    # Broad on purpose: a reply that cannot be told to be the patient's is not.
    except Exception:
        return False


def _withheld(reply: Reply) -> bytes:
    """What is stored of a reply about somebody else."""
    return orjson.dumps({"withheld": "not about the asked patient", "shape": shape_of(reply.content)})


def replay(submit: Callable[[], Flow], stored: Sequence[tuple[str, Reply]]) -> Progress | None:
    """What a submit flow makes of stored replies, each with its call's label; None if they do not hold a committing call
    that worked. Nothing is sent. Raises NotInterpreted.

    The last part that fits counts: replies of earlier tries stand before it, those of look-ups after it.
    """
    for start in reversed(range(len(stored))):
        progress = _replayed(submit(), stored[start:])
        if progress is not None:
            return progress
    return None


def replayed_answer(
    flow_of: Callable[[], Generator[Call, Reply, Any]], stored: Sequence[tuple[str, Reply]]
) -> Answered | None:
    """The answer that a flow which submits nothing makes of the last stored replies that fit it; None if it makes none."""
    for start in reversed(range(len(stored))):
        flow = flow_of()
        try:
            call = next(flow)
            for label, reply in stored[start:]:
                if call.label != label or call.commits:
                    break
                call = flow.send(reply)
        except StopIteration as stop:
            if isinstance(stop.value, Answered):
                return stop.value
        except (VendorError, *UNREADABLE):
            pass
        finally:
            flow.close()
    return None


def _replayed(flow: Flow, stored: Sequence[tuple[str, Reply]]) -> Progress | None:
    committed = False
    try:
        call = next(flow)
        for label, reply in stored:
            if call.label != label or (call.commits and not reply.ok):
                return None
            committed = call.commits
            call = flow.send(reply)
            if committed:
                raise RuntimeError("a submit flow ends with its committing call")
    except StopIteration as stop:
        progress: Progress = stop.value
        return progress if committed else None
    except (VendorError, *UNREADABLE):
        return None
    # Broad on purpose, as above.
    except Exception as error:
        if committed:
            raise NotInterpreted from error
    finally:
        flow.close()
    return None
