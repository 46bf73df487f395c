"""Which addresses and URLs may be reached: the guard in front of every outgoing connection."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection
from typing import Any, TypeAlias

import httpx

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


_SPECIAL_V4 = tuple(map(ipaddress.IPv4Network, ("192.0.0.0/24", "192.88.99.0/24")))
"""Blocks of the IANA IPv4 special-purpose registry that `is_global` lets pass, in whole or in part."""


_CLOUDS_OWN = tuple(map(ipaddress.IPv4Network, ("168.63.129.16/32", "161.26.0.0/16", "166.8.0.0/14")))
"""Public by their numbers, but led to the host or to the cloud's own services: Azure's host, IBM Cloud's service networks. The
metadata addresses of the other clouds (169.254.169.254, 100.100.100.200, fd00:ec2::254, …) are not global anyway.
"""


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


_SPECIAL_V6 = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))
"""Blocks of the IANA IPv6 special-purpose registry inside 2000::/3 that are not public (Teredo is in 2001::/23)."""


class ForbiddenAddress(OSError):
    """The name resolved to an address that is not public. Nothing was sent."""


def is_public(address: _Address) -> bool:
    """Whether the address may be connected to. IPv4 inside IPv6 counts as that IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour
        if embedded is None and address in _NAT64:
            embedded = ipaddress.IPv4Address(address.packed[-4:])
        if embedded is not None:
            return is_public(embedded)
        return address in _GLOBAL_UNICAST and address.is_global and not any(address in net for net in _SPECIAL_V6)
    special = (*_SPECIAL_V4, *_CLOUDS_OWN)
    return address.is_global and not address.is_multicast and not any(address in net for net in special)


def _guarded_socket(addr_info: tuple[Any, ...]) -> socket.socket:
    """aiohttp calls it with the very address it is about to connect to, so neither IP literals nor rebinding get past."""
    family, kind, protocol, _, sockaddr = addr_info
    if not is_public(ipaddress.ip_address(sockaddr[0])):
        raise ForbiddenAddress("not a public address")
    return socket.socket(family=family, type=kind, proto=protocol)


_HOST = re.compile(r"[0-9a-f:.]*:[0-9a-f:.]*|[\w-]+(\.[\w-]+)*\.?", re.ASCII | re.IGNORECASE)
"""An IPv6 literal without a zone, or a name (international ones are encoded by then)."""


def check_url(url: str, *, allow_private: bool, ports: Collection[int] = ()) -> str | None:
    """The reason why nothing can be sent to this URL, fit to be shown to its author; None if it can.

    `ports` are those that it may have; if there are none, and with `allow_private`, any will do. Names are not looked up
    here: that happens, guarded, at each connection.
    """
    if len(url) > 2048:
        return "is longer than 2048 characters"
    try:
        parsed = httpx.URL(url)
        host, port = parsed.host, parsed.port
    except (httpx.InvalidURL, ValueError):
        return "is not a valid URL"
    if parsed.scheme not in ("https", "http"):
        return "must begin with https://"
    if parsed.scheme == "http" and not allow_private:
        return "must begin with https://"
    if not host:
        return "has no host"
    if not _HOST.fullmatch(parsed.raw_host.decode("ascii")):
        return "is not a valid URL"
    if parsed.userinfo:
        return "must not contain credentials"
    if parsed.fragment or "#" in url:
        return "must not contain a fragment"
    if port is not None and not 0 < port < 65536:
        return "has an impossible port"
    if ports and not allow_private and (port or 443) not in ports:
        return f"must have one of the ports that are allowed: {', '.join(map(str, ports))}"
    if not allow_private and _is_private_host(host):
        return "must not point at a private or local address"
    return None


def _is_private_host(host: str) -> bool:
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return not is_public(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        # `2130706433`, `0x7f.1` and the like are not names either: resolvers read them as IPv4.
        return not is_public(ipaddress.IPv4Address(socket.inet_aton(name)))
    except OSError:
        return False
