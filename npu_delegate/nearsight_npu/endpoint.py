"""The address of a machine that may be asked for an answer, and whether the way there is fit for pictures."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from nearsight_npu.errors import PolicyError

CHAT = "/chat/completions"
# Names that are only known inside one network.
# Source: RFC 6761 (localhost), RFC 6762 (local), RFC 8375 (home.arpa); internal is reserved by ICANN; lan is custom.
LOCAL_SUFFIXES = ("localhost", "local", "lan", "internal", "home.arpa")
# This machine, and what no router passes on. Addresses that a provider's customers share (100.64.0.0/10) are not among
# them, nor those that are translated to others on the way.
# Source: RFC 1122 (0 and 127), RFC 1918, RFC 3927 (169.254), RFC 4291 (::, ::1 and fe80), RFC 4193 (fc00).
NEAR = tuple(
    ipaddress.ip_network(block)
    for block in (
        "0.0.0.0/32",
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::/128",
        "::1/128",
        "fe80::/10",
        "fc00::/7",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where an OpenAI-compatible server listens.

    Attributes:
        secure: whether the way there is encrypted (https).
        host: its name or address.
        port: its port.
        path: the path that takes a chat completion.
    """

    secure: bool
    host: str
    port: int
    path: str

    @property
    def place(self) -> str:
        """Give `host:port`, as messages and decisions name it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoint_at(url: str) -> Endpoint:
    """Read an address such as `https://host/v1`; `/v1` is taken where there is no path.

    Args:
        url: the base address, or the full one that ends in `/chat/completions`.

    Raises:
        PolicyError: for anything but http or https, for an address that holds a user, a password, a query or a
            fragment, and for plain http to a machine outside the local network.
    """
    parts = _split(url)
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    if not secure and not is_near(host):
        raise PolicyError(
            f"an endpoint at http://{host} was asked for; pictures and words would cross the open network in clear, "
            "and http is kept for this machine and the local network; use https"
        )
    path = parts.path.rstrip("/") or "/v1"
    return Endpoint(
        secure=secure,
        host=host,
        port=parts.port or (443 if secure else 80),
        path=path if path.endswith(CHAT) else path + CHAT,
    )


def _split(url: object) -> SplitResult:
    form = "give one like https://host:8000/v1"
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        raise PolicyError(
            f"an endpoint of type {type(url).__name__} was asked for; it is a plain http or https URL; {form}"
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # What it complains about is a piece of the text, and so is not shown either.
        usable = False
    # The text is repeated nowhere: it may be, or hold, a secret.
    if any(mark in url for mark in "@?#"):
        raise PolicyError(
            "an endpoint with a user, a password, a query or a fragment was asked for; addresses are shown in "
            "decisions, so they hold no secrets; give the key in the environment variable NEARSIGHT_API_KEY"
        )
    if not usable:
        raise PolicyError(f"an endpoint was asked for that is no http or https URL with a host and a port; {form}")
    return parts


def is_near(host: str) -> bool:
    """Tell whether a host is this machine or in the local network, by its address or, for a name, by its form."""
    try:
        return is_near_address(host)
    except ValueError:
        return "." not in host or host.lower().rstrip(".").endswith(tuple("." + suffix for suffix in LOCAL_SUFFIXES))


def is_near_address(address: str) -> bool:
    """Tell whether an IP address is this machine's or one of the local network.

    Raises:
        ValueError: if it is no IP address.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    inner = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return any((inner or found) in network for network in NEAR)
