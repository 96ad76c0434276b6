"""A pytest plugin: no test of a foreign suite reaches beyond this machine, and none traces its memory.

The suite's conftest traces every allocation, which nothing looks at and which makes it several times slower.
"""

import ipaddress
import socket
import tracemalloc

_connect = socket.socket.connect


def connect(self, address):
    host = address[0] if isinstance(address, tuple) else "localhost"
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        if host != "localhost":
            raise OSError(f"calm: {host} is not this machine") from None
    else:
        if not ip.is_loopback:
            raise OSError(f"calm: {host} is not this machine")
    return _connect(self, address)


socket.socket.connect = connect
tracemalloc.start = lambda *_: None
tracemalloc.stop = lambda: None
