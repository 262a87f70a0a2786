"""The way to the gateway out of a sandbox without a network. Also a script of its own.

`python -I -S relay.py PORT SOCKET -- PROGRAM ARGUMENT...`, standard library alone: listens on the sandbox's loopback at
the port that the gateway has outside, passes every connection on to a Unix socket that was mounted here, and becomes
the program. Whoever made the socket (workers/outlet.py) connects it to the gateway, and to nothing else.

1. It listens before the program starts, so that no first request is refused.
2. The passing on is done by a process of its own, adopted by the sandbox's first process: it ends with the sandbox.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import suppress

SOCKET = "gateway"
PIECE = 1 << 16


def listen(port: int) -> socket.socket:
    """The listening socket."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("127.0.0.1", port))
    found.listen(64)
    return found


def serve(door: socket.socket, path: str) -> None:
    """Pass connections on, one thread for each direction, until the process is ended."""
    while True:
        with suppress(OSError):
            client, _ = door.accept()
            threading.Thread(target=_pass_on, args=(client, path), daemon=True).start()


def _pass_on(client: socket.socket, path: str) -> None:
    with client, socket.socket(socket.AF_UNIX) as way:
        try:
            way.connect(path)
        except OSError:
            return
        back = threading.Thread(target=_copy, args=(way, client), daemon=True)
        back.start()
        _copy(client, way)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(PIECE):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def main(words: list[str]) -> int:
    """See above."""
    port, path, mark, *command = words
    if mark != "--" or not command:
        return 126
    door = listen(int(port))
    if os.fork() == 0:
        if os.fork() == 0:
            quiet = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(quiet, number)
            serve(door, path)
        os._exit(0)
    os.wait()
    door.close()
    os.execv(command[0], command)
    return 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
