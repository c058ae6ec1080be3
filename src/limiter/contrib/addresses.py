"""Client addresses, behind trusted proxies or without any: `http.client_ip`."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING

from limiter import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_ip(
    peer: str | None,
    lookup: Callable[[str], str | None],
    *,
    trusted: int | Sequence[Network | str] = 0,
    header: str = "x-forwarded-for",
    ipv6_prefix: int = 64,
) -> str:
    """Return the address to limit a request by: the peer's address, or behind trusted proxies the client's.

    - `peer`: the address that the connection comes from, as the server reports it. It is the result by default.
    - `lookup`: maps the lower-case name of a header to its value or None. If a header occurs several times, the value must
      be all of them, joined by commas: Starlette's `headers.get` returns the first only; `asgi.client_ip` joins them.
    - `trusted`: how many proxies the request has passed, the peer included: the n-th address of the header from the right is
      the client's, and with fewer addresses the peer's counts. Or the networks of the proxies: the first address from the
      right that is in none of them is the client's. The two never mix.
    - `header`: the list that the proxies append to; `"forwarded"` is read as in RFC 7239.
    - `ipv6_prefix`: an IPv6 address becomes its network, such as `"2001:db8::/64"`, because one client has many addresses.

    A peer without an address (a unix socket) counts as a trusted proxy if there are any; without a header the result is then
    `"unknown"`. Raises `ValidationError` for an unusable option.
    """
    _check_prefix(ipv6_prefix)
    if isinstance(trusted, int):
        found = _by_count(_hops(lookup, header), _proxies(trusted)) if trusted else None
    else:
        networks = _networks(trusted if isinstance(trusted, str) else tuple(trusted))
        found = _by_network(peer, _hops(lookup, header), networks) if networks else None
    address = found or _parse_address(peer or "")
    if address is None:
        return peer or "unknown"
    return str(address) if address.version == 4 else str(ipaddress.ip_network((int(address), ipv6_prefix), strict=False))


def _parse_address(text: str) -> Address | None:
    """Return an address without port, brackets and zone; an IPv4 address mapped into IPv6 as IPv4; None for any other text."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _hops(lookup: Callable[[str], str | None], header: str) -> list[str]:
    value = lookup(header.lower())
    if not value:
        return []
    # A comma inside quotes splits too: a client that opens a quote could hide what the proxies append.
    hops = value.split(",")
    return [_forwarded_for(hop) for hop in hops] if header.lower() == "forwarded" else hops


def _forwarded_for(element: str) -> str:
    pairs = (pair.partition("=") for pair in element.split(";"))
    return next((value.strip().strip('"') for name, _, value in pairs if name.strip().lower() == "for"), "")


def _by_count(hops: Sequence[str], proxies: int) -> Address | None:
    return _parse_address(hops[-proxies]) if len(hops) >= proxies else None


def _by_network(peer: str | None, hops: Sequence[str], networks: Sequence[Network]) -> Address | None:
    """Return the first address from the right that is no proxy's. If an entry is not an address, return the proxy before it."""
    found = _parse_address(peer or "")
    if (peer and found is None) or not (found is None or _is_in(found, networks)):
        return found
    for hop in reversed(hops):
        address = _parse_address(hop)
        if address is None:
            return found
        found = address
        if not _is_in(address, networks):
            return found
    return found


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _proxies(trusted: int) -> int:
    if isinstance(trusted, bool) or trusted < 0:
        raise ValidationError(f"trusted must be a number of proxies, 0 or more, or a sequence of networks, not {trusted!r}")
    return trusted


@lru_cache
def _networks(trusted: str | tuple[Network | str, ...]) -> tuple[Network, ...]:
    if isinstance(trusted, str):
        raise ValidationError(f"trusted must be a number of proxies or a sequence of networks, such as [{trusted!r}]")
    try:
        return tuple(ipaddress.ip_network(each, strict=False) for each in trusted)
    except ValueError as error:
        raise ValidationError(f"trusted must hold networks such as '10.0.0.0/8': {error}") from None


def _check_prefix(prefix: int) -> None:
    if isinstance(prefix, bool) or not isinstance(prefix, int) or not 1 <= prefix <= 128:
        raise ValidationError(f"ipv6_prefix must be an integer from 1 to 128, not {prefix!r}")
