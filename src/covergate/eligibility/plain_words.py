"""The gateway's own messages for people who know none of the API's names: what a page shows, and a printed sheet."""

from __future__ import annotations

import re

_NAMED = re.compile(r"[;,] see (?:the answer to )?(?:[a-z]+[._][a-z_.]+|benefits)(?: and [a-z_]+)*(?=\.)")
"""A hint at a field of the API. A page shows beside the message what that field holds."""
_PLAIN: dict[str, str] = {
    " with retry_of set to this one": "",
    "named in bill_to": "that is to be billed",
    "it is kept in raw": "it is kept as it came",
    "GET /v1/payers": "the payer directory",
    "vendor_code and the raw reply": "the vendor's code and its reply",
}


def plain(message: str) -> str:
    """Without names of fields. Pure."""
    message = _NAMED.sub("", message)
    for words, plain_words in _PLAIN.items():
        message = message.replace(words, plain_words)
    return message
