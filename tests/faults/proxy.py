"""A TCP proxy before an HTTP server, which loses what it is told to lose."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# What becomes of a request: it passes, it never arrives, or its answer is lost.
PASS, BEFORE, ANSWER = "pass", "before", "answer"
Fault = Callable[[int, str], str]

REQUEST = re.compile(rb"(GET|POST|PUT|PATCH|DELETE) (\S+) HTTP/1\.1\r\n")


def passes(_number: int, _line: str) -> str:
    """No fault."""
    return PASS


class Proxy:
    """Forwards connections to a port of this machine.

    Attributes:
        port: Its own.
        fault: Asked of every request, by its number from 0 and its line: one of the above.
        requests: The lines of all requests, `POST /api/...`.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._hanging = threading.Event()
        self._listener: socket.socket | None = None
        self.port = 0
        self.fault: Fault = passes
        self.requests: list[str] = []
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """The server is there (again)."""
        self._hanging.clear()
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """The server is gone: connections are refused, open ones are reset."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            for connection in self._open:
                _reset(connection)
            self._open.clear()

    def hang(self) -> None:
        """The server takes requests and never answers."""
        self._hanging.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self._target))
        for connection in (client, server):
            # A request of two packets would else wait 40 ms for the first one to be acknowledged.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open |= {client, server}
        lost = threading.Event()
        threading.Thread(target=self._answer, args=(server, client, lost), daemon=True).start()
        with suppress(OSError):
            while data := client.recv(1 << 20):
                if self._hanging.is_set():
                    return  # neither forwarded nor closed
                found = REQUEST.match(data)
                if found is not None:
                    line = b" ".join(found.groups()).decode()
                    with self._lock:
                        number = len(self.requests)
                        self.requests.append(line)
                    fate = self.fault(number, line)
                    if fate == BEFORE:
                        break
                    if fate == ANSWER:
                        lost.set()
                server.sendall(data)
        self._close(client, server)

    def _answer(self, server: socket.socket, client: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 20):
                if lost.is_set():
                    break  # the server has done it, and nobody will hear of that
                if self._hanging.is_set():
                    return
                client.sendall(data)
        self._close(client, server)

    def _close(self, *connections: socket.socket) -> None:
        with self._lock:
            self._open -= set(connections)
        for connection in connections:
            _reset(connection)


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        connection.close()


@contextmanager
def proxy_before(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.refuse()
