"""Engines that run already: on another machine (TLS or an SSH tunnel), or from the preferences."""

from __future__ import annotations

import ipaddress
import ssl
import urllib.parse
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import AnimaticError
from ..shot.vocabulary import Vocabulary
from .catalogue import Checkpoint, find_checkpoint, read_few_steps, read_keyframes
from .client import EngineClient
from .engine_process import EngineProcess


@dataclass(frozen=True)
class Address:
    """Where an engine listens, and whether the way to it is encrypted."""

    host: str
    port: int
    tls: bool


def parse_address(text: str) -> Address:
    """``https://gpu.studio.example``, ``http://127.0.0.1:8188``, ``localhost:8188``.

    Without a scheme, an address of this machine means http and any other https. Raises
    AnimaticError for what cannot be meant, and for http to another machine.
    """
    text = text.strip()
    example = "https://gpu.example.com or, through an SSH tunnel, http://127.0.0.1:8188"
    try:
        parts = urllib.parse.urlsplit(text if "://" in text else f"//{text}")
        host, port = parts.hostname or "", parts.port
        host.encode("idna")  # as a connection will
    except ValueError as error:
        raise AnimaticError(f"{text} is no address ({error}): write {example}.") from error
    if not host:
        raise AnimaticError(f"The address of the remote engine is missing: write {example}.")
    if parts.username or parts.password:
        raise AnimaticError("The address holds a name or password: put the token in its own field.")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise AnimaticError(f"{text} goes on behind the port: write only {example}.")
    scheme = parts.scheme or ("http" if is_loopback(host) else "https")
    if scheme not in ("http", "https"):
        raise AnimaticError(f"{text} begins with {scheme}: write {example}.")
    if scheme == "http" and not is_loopback(host):
        raise AnimaticError(
            f"http://{host} would send your pictures and the token over the network for anyone to "
            "read. Use https, or an SSH tunnel: run `ssh -N -L 8188:127.0.0.1:PORT "
            f"{host}` (PORT is the engine's) and write http://127.0.0.1:8188 here."
        )
    return Address(host, port or (443 if scheme == "https" else 80), scheme == "https")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, and nothing said to it leaves it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Running:
    """Used as a context like EngineProcess, but entering starts nothing and leaving stops nothing.

    So the model stays in memory from one take to the next.
    """

    def __enter__(self) -> Self:
        """Nothing to start."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to stop."""


class RemoteEngine(_Running):
    """An engine on another machine, or behind an SSH tunnel on this one.

    Args:
        address: as ``parse_address`` takes it.
        token: what the engine was started with.

    Raises AnimaticError for a wrong address or a missing token.
    """

    def __init__(self, address: str, token: str) -> None:
        self.address = parse_address(address)
        self._token = token.strip()
        if not self._token or not self._token.isascii() or not self._token.isprintable():
            raise AnimaticError(
                "The token of the remote engine is missing or damaged: copy it from the file that "
                "`animatic serve` names when it starts."
            )

    def client(self) -> EngineClient:
        """A client of this engine."""
        tls = ssl.create_default_context() if self.address.tls else None
        return EngineClient(self.address.host, self.address.port, self._token, tls=tls)

    def find(self, model: str) -> Checkpoint:
        """The engine's model of this name. Raises AnimaticError, naming those that it has."""
        return checkpoint_there(self.client().model(model))


class LocalEngine(_Running):
    """The engine that was started from the preferences, with the models in ``folders``."""

    def __init__(self, process: EngineProcess, folders: list[Path]) -> None:
        self._process = process
        self._folders = folders

    def client(self) -> EngineClient:
        """A client of this engine."""
        return self._process.client()

    def find(self, model: str) -> Checkpoint:
        """The model of this name. Raises AnimaticError, naming those that there are."""
        checkpoint = find_checkpoint(model, self._folders)
        if not any(folder.resolve() in checkpoint.folder.parents for folder in self._folders):
            raise AnimaticError(
                f"The running engine does not know {checkpoint.folder}: add the folder that it is "
                "in to the model folders in the preferences and restart the engine, or stop it."
            )
        return checkpoint


def checkpoint_there(description: dict) -> Checkpoint:
    """A checkpoint that lies with a remote engine, from an entry of its ``/v1/models``.

    Its folder is of no use here. Raises AnimaticError where the entry lacks something.
    """
    try:
        native, defaults = description["native"], description["defaults"]
        return Checkpoint(
            folder=Path(),
            name=str(description["name"]),
            native=int(native["width"]),
            frames=int(native["frames"]),
            fps=Fraction(str(native["fps"])),
            guides=tuple(description["guides"]),
            steps=int(defaults["steps"]),
            guidance=float(defaults["guidance"]),
            guidance_end=float(defaults.get("guidance_end", 1.0)),
            schedule=defaults.get("schedule"),
            keyframes=read_keyframes(defaults),
            deflicker=bool(defaults.get("deflicker", False)),
            lineart_width=float(description["lineart_width"]),
            encoders={g: tuple(k) for g, k in description.get("encoders", {}).items()},
            image_prompt=bool(description.get("image_prompt", False)),
            few_steps=read_few_steps(description),
            vocabulary=Vocabulary.read(description),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AnimaticError(
            f"The engine describes its model incompletely ({error}): install the same version of "
            "Animatic on both sides."
        ) from error
