"""Real ways to an engine that is elsewhere: a proxy with TLS, and an SSH tunnel over loopback."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """Self-signed, for localhost."""

    key: Path
    file: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        """Have openssl make one in ``folder``."""
        made = cls(folder / "key.pem", folder / "cert.pem")
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        command += " -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        words = [*command.split(), "-keyout", str(made.key), "-out", str(made.file)]
        subprocess.run(words, check=True, capture_output=True)
        return made


@contextmanager
def tls_proxy(port: int, certificate: Certificate) -> Iterator[int]:
    """What a web server before the engine does: TLS outside, the same bytes to ``port`` inside.

    Yields the port outside.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)

    def pump(source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                to.sendall(data)
        with suppress(OSError):
            to.shutdown(socket.SHUT_RDWR)

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            try:
                outside = context.wrap_socket(plain, server_side=True)
            except OSError:
                continue
            inside = socket.create_connection(("127.0.0.1", port))
            for pair in ((outside, inside), (inside, outside)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        yield listening.getsockname()[1]


def ssh_daemon() -> str | None:
    """The program of an SSH server, where there is one; it is seldom on the path."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def ssh_tunnel(port: int, folder: Path) -> Iterator[int]:
    """``ssh -N -L`` to ``port`` of this machine, by an SSH server of its own on loopback.

    Keys and configuration lie in ``folder``; yields the port at this end.
    """
    for name in ("host_key", "user_key"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    listens, here = free_port(), free_port()
    settings = {
        "Port": listens,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host_key",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "PidFile": "none",
    }
    config = folder / "sshd_config"
    config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # it puts itself in there before it knows a user
    known = ("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder / 'known'}")
    goes = ("-N", "-L", f"{here}:127.0.0.1:{port}", "-p", str(listens), "127.0.0.1")
    client = ["ssh", "-F", "none", "-i", str(folder / "user_key"), "-o", "BatchMode=yes"]
    programs = [[ssh_daemon() or "sshd", "-D", "-e", "-f", str(config)], [*client, *known, *goes]]
    running = []
    try:
        for program, answers in zip(programs, (listens, here), strict=True):
            running.append(subprocess.Popen(program, stdin=subprocess.DEVNULL))
            wait_for(answers)
        yield here
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(timeout=10)


def free_port() -> int:
    """A port of loopback that nobody has at the moment."""
    with closing(socket.create_server(("127.0.0.1", 0))) as asked:
        return asked.getsockname()[1]


def wait_for(port: int, seconds: float = 20.0) -> None:
    """Wait until somebody listens there."""
    ends = time.monotonic() + seconds
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < ends, f"nobody listens on port {port}"
        time.sleep(0.05)
