"""A subscriber that is frozen, or whose network is cut, has heard all in the end."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.pair import pair
from support.peers import free_ports
from support.proxy import Proxy

FROZEN = float(os.environ.get("STREAMTAG_FROZEN_SECONDS", "0"))
"""How long a subscriber is frozen at least; a minute by hand."""
CUTS = int(os.environ.get("STREAMTAG_CUTS", "5"))


def local(ports: tuple[int, int]) -> tuple[str, str]:
    return f"tcp://127.0.0.1:{ports[0]}", f"tcp://127.0.0.1:{ports[1]}"


def test_a_stopped_subscriber_receives_everything_in_the_end(tmp_path: Path) -> None:
    """So much is emitted meanwhile that no buffer holds it."""
    there = local(free_ports())
    with pair(tmp_path, there, there) as both:
        both.wait_for(both.emit(100))
        both.subscriber.send_signal(signal.SIGSTOP)
        ends = time.monotonic() + FROZEN
        both.emit(20_000)  # 20 MB
        while time.monotonic() < ends:
            both.emit(500)
            time.sleep(0.5)
        both.subscriber.send_signal(signal.SIGCONT)
        both.check()


def test_a_network_that_is_cut_again_and_again(tmp_path: Path) -> None:
    ports, rng = free_ports(), random.Random(1)
    proxies = [Proxy(port) for port in ports]
    with ExitStack() as stack:
        for proxy in proxies:
            stack.callback(proxy.close)
        seen = local((proxies[0].port, proxies[1].port))
        both = stack.enter_context(pair(tmp_path, local(ports), seen))
        both.wait_for(both.emit(100))
        for _ in range(CUTS):
            both.emit(rng.randrange(500))  # on their way when it is cut
            cut = proxies if rng.random() < 0.5 else proxies[: rng.randrange(1, 3)]
            for proxy in cut:
                proxy.cut()
            both.emit(rng.randrange(3000))
            for proxy in cut:
                proxy.mend()
            both.emit(rng.randrange(500))
        both.check()
        assert proxies[1].forwarded > 10_000  # it had to ask


class Namespaces:
    """Two network namespaces with a cable between them."""

    def __init__(self) -> None:
        tag = os.getpid() % 100_000
        self.names = f"st{tag}a", f"st{tag}b"

    def make(self) -> None:
        """Raises CalledProcessError where that is not allowed."""
        a, b = self.names
        self.remove()  # what a test left behind that was killed
        for name in self.names:
            self.ip("netns", "add", name)
        self.ip("link", "add", a, "netns", a, "type", "veth", "peer", "name", b, "netns", b)
        for number, name in enumerate(self.names, 1):
            self.ip("-n", name, "addr", "add", f"10.99.0.{number}/24", "dev", name)
            self.ip("-n", name, "link", "set", name, "up")
            self.ip("-n", name, "link", "set", "lo", "up")

    def cable(self, state: str) -> None:
        """Plugs it `up` or `down`."""
        self.ip("-n", self.names[0], "link", "set", self.names[0], state)

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    @staticmethod
    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], capture_output=True, check=True, text=True)


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    if not shutil.which("ip"):
        pytest.skip("no command ip (package iproute2) on this machine")
    made = Namespaces()
    try:
        made.make()
        yield made
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not allowed here: {error.stderr.strip()}")
    finally:
        made.remove()


def test_a_cable_between_namespaces_that_is_pulled(tmp_path: Path, namespaces: Namespaces) -> None:
    """Nobody says goodbye to a connection: packets just stop."""
    there = "tcp://10.99.0.1:5757", "tcp://10.99.0.1:5758"
    before = tuple(["ip", "netns", "exec", name] for name in namespaces.names)
    with pair(tmp_path, there, there, before=(before[0], before[1])) as both:
        both.wait_for(both.emit(100))
        for n in (200, 20_000):  # what buffers hold, and what they do not
            namespaces.cable("down")
            both.emit(n)
            namespaces.cable("up")
            both.emit(100)
        both.check()
