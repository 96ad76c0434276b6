"""A pytest plugin: no test of a foreign suite reaches beyond this machine."""

import ipaddress
import socket

_connect = socket.socket.connect


def connect(self, address):
    host = address[0] if isinstance(address, tuple) else "localhost"
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        if host != "localhost":
            raise OSError(f"loopback_only: {host} is not this machine") from None
    else:
        if not ip.is_loopback:
            raise OSError(f"loopback_only: {host} is not this machine")
    return _connect(self, address)


socket.socket.connect = connect
