"""A TCP proxy in front of a server's Unix socket that fails at one chosen command."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Fault(StrEnum):
    """What happens to the chosen command."""

    RESET = "reset"  # it never reaches the server
    SWALLOWED = "swallowed"  # the server carries it out, its reply is lost
    TORN = "torn"  # the same, and a part of the reply arrives
    OVERTAKEN = "overtaken"  # it reaches the server after its resend and one more command
    LATE = "late"  # it reaches the server after everything that follows it, as a delayed packet does


@dataclass
class Proxy:
    """Forwards command by command, counts them over all connections, and fails at number `at` (from 1).

    What `look` sees must be the same before and after a command that was overtaken; `changed` tells where it was not.
    """

    target: str
    at: int = 0
    fault: Fault = Fault.RESET
    count: int = 0
    commands: list[bytes] = field(default_factory=list)
    look: Callable[[], object] = lambda: None
    changed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._held_back: list[bytes] = []
        self._resent = False
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._acceptor = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def arm(self, at: int, fault: Fault = Fault.RESET) -> None:
        """Begin to count anew, and fail at that command; 0 is none."""
        with self._lock:
            self.at, self.fault, self.count = at, fault, 0
            self.commands.clear()
            self.changed.clear()
            self._held_back.clear()
            self._resent = False

    def deliver_late(self) -> None:
        """Let what was held back reach the server now."""
        for command in self._held_back:
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(self.target)
                server.sendall(command)
                read_message(server.makefile("rb"))
        self._held_back.clear()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(5.0)
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5.0)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(client,), name="proxy", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        with self._lock:
            self._open.update((client, server))
        with client, server, contextlib.suppress(OSError, EOFError):
            server.connect(self.target)
            requests, replies = client.makefile("rb"), server.makefile("rb")
            with requests, replies:
                while self._forward(client, server, requests, replies):
                    pass
        with self._lock:
            self._open.difference_update((client, server))

    def _forward(self, client: socket.socket, server: socket.socket, requests: Any, replies: Any) -> bool:
        command = read_message(requests)
        with self._lock:
            self.count += 1
            fault = self.fault if self.count == self.at else None
            self.commands.append(command)
            if fault in (Fault.OVERTAKEN, Fault.LATE):
                self._held_back.append(command)
        if fault in (Fault.RESET, Fault.OVERTAKEN, Fault.LATE):
            return _reset(client)
        server.sendall(command)
        reply = read_message(replies)
        if self.fault is Fault.OVERTAKEN and self._held_back:
            if command == self._held_back[0]:
                self._resent = True
            elif self._resent:
                before = self.look()
                self.deliver_late()
                if self.look() != before:
                    self.changed.append(f"{before} became {self.look()}")
        if fault is Fault.SWALLOWED:
            return _reset(client)
        if fault is Fault.TORN:
            client.sendall(reply[: len(reply) // 2])
            client.shutdown(socket.SHUT_WR)
            return False
        client.sendall(reply)
        return True


def _reset(client: socket.socket) -> bool:
    """Have the close send RST instead of a tidy end."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def read_message(stream: Any) -> bytes:
    """Return the bytes of one whole RESP2 or RESP3 message. Raises EOFError where the stream ends."""
    line: bytes = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    kind, size = line[:1], line[1:-2]
    if kind in b"$=!" and size != b"-1":
        return line + _exactly(stream, int(size) + 2)
    if kind in b"*~>" and size != b"-1":
        return line + b"".join(read_message(stream) for _ in range(int(size)))
    if kind in b"%|":
        return line + b"".join(read_message(stream) for _ in range(2 * int(size)))
    return line


def _exactly(stream: Any, size: int) -> bytes:
    data: bytes = stream.read(size)
    if len(data) != size:
        raise EOFError
    return data
