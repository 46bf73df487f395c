"""A DNS server on a port of its own: some names have addresses, some are never answered."""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

A, AAAA = 1, 28


@dataclass
class DnsServer(asyncio.DatagramProtocol):
    """`addresses`: name → its addresses. Names that begin with `hang` get no answer, all others do not exist."""

    addresses: Mapping[str, tuple[str, ...]]
    delays: Mapping[str, float] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """The names of all queries, one for IPv4 and one for IPv6."""
    address: str = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        name, kind, question = _question(data)
        self.asked.append(name)
        if name.startswith("hang"):
            return
        known = self.addresses.get(name)
        wanted = [_record(address, kind) for address in known or () if _kind(address) == kind]
        flags = 0x8180 if known is not None else 0x8183
        reply = data[:2] + struct.pack("!5H", flags, 1, len(wanted), 0, 0) + question + b"".join(wanted)
        loop = asyncio.get_running_loop()
        loop.call_later(self.delays.get(name, 0.0), lambda: self._transport.sendto(reply, addr))


def _question(data: bytes) -> tuple[str, int, bytes]:
    labels, at = [], 12
    while length := data[at]:
        labels.append(data[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels).lower(), int.from_bytes(data[at + 1 : at + 3]), data[12 : at + 5]


def _kind(address: str) -> int:
    return AAAA if ":" in address else A


def _record(address: str, kind: int) -> bytes:
    packed = ipaddress.ip_address(address).packed
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(packed)) + packed


@asynccontextmanager
async def dns_server(
    addresses: Mapping[str, tuple[str, ...]], delays: Mapping[str, float] | None = None
) -> AsyncIterator[DnsServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: DnsServer(addresses, delays or {}), local_addr=("127.0.0.1", 0)
    )
    server.address = "127.0.0.1:{}".format(transport.get_extra_info("sockname")[1])
    try:
        yield server
    finally:
        transport.close()
