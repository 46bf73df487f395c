"""Lists over HTTP: `limit`, `after`, and the cursor, which is the last row's id in base64 and nothing else."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from covergate import ids
from covergate.db.page import Page
from covergate.eligibility.inquiry import invalid
from covergate.errors import FieldError, Problem

DEFAULT_ROWS = 20
MOST_ROWS = 100


def _digits(value: object) -> object:
    """Pydantic alone would also take " 20", "2_0" and "20.0"."""
    if isinstance(value, int) or (isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value)):
        return value
    raise invalid("invalid_value", "must be an integer from 1 to 100")


# The bounds stand before the validator: behind it pydantic would not write them as `minimum` and `maximum`.
PageLimit = Annotated[
    int, Field(ge=1, le=MOST_ROWS, description=f"Rows in the page, 1 to {MOST_ROWS}"), BeforeValidator(_digits)
]
After = Annotated[str | None, Field(description="The `next_cursor` of the page before")]


class PageQuery(BaseModel):
    """The query parameters of every list."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    limit: PageLimit = DEFAULT_ROWS
    after: After = None


def listed(page: Page) -> dict[str, Any]:
    """A page as the API shows it."""
    return {
        "object": "list",
        "data": page.data,
        "has_more": page.next_after is not None,
        "next_cursor": None if page.next_after is None else cursor(page.next_after),
    }


def cursor(id_: str) -> str:
    return base64.urlsafe_b64encode(id_.encode()).rstrip(b"=").decode()


def position(after: str | None, is_valid: Callable[[str], bool], parameter: str = "after") -> str | None:
    """The id in a cursor. Raises Problem `invalid_cursor`."""
    if after is None:
        return None
    id_ = ""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,100}", after):
        try:
            id_ = base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)).decode("ascii")
        except (binascii.Error, ValueError):
            id_ = ""
    if not is_valid(id_) or cursor(id_) != after:
        error = FieldError("invalid_cursor", "must be the next_cursor of the page before", **_where(parameter))
        raise Problem("invalid_cursor", "take next_cursor as it was given", [error])
    return id_


def position_of(prefix: str, after: str | None) -> str | None:
    """The same for a list ordered by ids of one kind."""
    return position(after, lambda id_: ids.is_id(prefix, id_))


def _where(parameter: str) -> dict[str, str]:
    return {"pointer": parameter} if parameter.startswith("/") else {"parameter": parameter}
