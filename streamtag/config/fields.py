"""Values of the configuration that several tables have: addresses."""

import ipaddress
import re

_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^\s/\[\]]+):([0-9]{1,5})")


def split_host_port(text: str) -> tuple[str, int] | None:
    """Host and port of `HOST:PORT`, an IPv6 host without its brackets; None if it is none."""
    found = _HOST_PORT.fullmatch(text)
    if found is None or int(found[2]) > 65535:
        return None
    return found[1].strip("[]"), int(found[2])


def is_public(host: str) -> bool:
    """Whether programs on other machines could reach a host's address."""
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
