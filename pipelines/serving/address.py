"""Where actions were sent from, so that the next model can be kept from listening to one address too much."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

_HOUSEHOLD = 64
"""The bits of an IPv6 address that a provider hands out; who has them may fill in the rest at will."""


def network_of(host: str | None) -> str | None:
    """Name the network that a host counts by; None for this machine itself, and for what is no address."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback:
        return None
    if isinstance(address, IPv6Address):
        return str(ip_network((address, _HOUSEHOLD), strict=False))
    return str(address)
