"""Bodies of replies, read up to a limit and decoded here."""

from __future__ import annotations

import zlib

import httpx


class UnreadableReply(Exception):
    """The reply's body cannot be decoded. The text is one constant word."""


class ReplyTooLarge(UnreadableReply):
    """The decoded body is larger than the limit."""


async def read_capped(response: httpx.Response, limit: int) -> bytes:
    """Returns the decoded body of at most `limit` bytes and closes. Raises ReplyTooLarge and UnreadableReply.

    Decoding is our own because httpx's unpacks a whole chunk before it can be counted, and stacks decoders on request.
    """
    try:
        coding = response.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("identity", "gzip", "x-gzip", "deflate", ""):
            raise UnreadableReply("unknown_content_coding")
        gunzip = _Gunzip() if coding not in ("identity", "") else None
        body = bytearray()
        async for chunk in _raw(response):
            body += gunzip.feed(chunk, limit + 1 - len(body)) if gunzip else chunk
            if len(body) > limit:
                raise ReplyTooLarge("reply_too_large")
        if gunzip:
            gunzip.finish()
        return bytes(body)
    finally:
        await response.aclose()


async def read_start(response: httpx.Response, limit: int) -> bytes:
    """Returns the first `limit` bytes as they came over the wire and closes, however much more there is."""
    start = bytearray()
    try:
        async for chunk in _raw(response):
            start += chunk
            if len(start) >= limit:
                break
    finally:
        await response.aclose()
    return bytes(start[:limit])


def _raw(response: httpx.Response) -> httpx.AsyncByteStream:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return response.stream


class _Gunzip:
    """Decompresses gzip, of several members too, and zlib; never more than it is asked for."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=47)
        self._begun = False

    def feed(self, data: bytes, room: int) -> bytes:
        out = bytearray()
        try:
            while data and len(out) < room:
                self._begun = True
                if self._member.eof:
                    self._member = zlib.decompressobj(wbits=47)
                out += self._member.decompress(data, room - len(out))
                data = self._member.unconsumed_tail or self._member.unused_data
        except zlib.error as error:
            raise UnreadableReply("broken_compression") from error
        return bytes(out)

    def finish(self) -> None:
        if self._begun and not self._member.eof:
            raise UnreadableReply("truncated_compression")
