"""An engine elsewhere: which addresses are taken, and TLS over a real socket."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from animatic.blender_addon.errors import AnimaticError
from animatic.blender_addon.link.client import EngineGone, EngineRefused
from animatic.blender_addon.link.remote import Address, RemoteEngine, parse_address
from animatic.tests.ways import Certificate, tls_proxy


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:8188", Address("localhost", 8188, False)),
        ("http://127.0.0.1:8188/", Address("127.0.0.1", 8188, False)),
        ("http://[::1]:8188", Address("::1", 8188, False)),
        ("https://gpu.example.com", Address("gpu.example.com", 443, True)),
        (" gpu.example.com:9000 ", Address("gpu.example.com", 9000, True)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://gpu.example.com:8188", "ssh -N -L"),
        ("http://192.168.1.5:8188", "for anyone to read"),
        ("http://localhost.example.com", "for anyone to read"),
        ("", "is missing"),
        ("ftp://x", "begins with ftp"),
        ("https://x:99999", "no address"),
        ("https://gpu..example.com", "no address"),
        ("https://me:secret@x", "its own field"),
        ("https://x/engine", "goes on behind"),
    ],
)
def test_refused_addresses(text: str, words: str) -> None:
    with pytest.raises(AnimaticError, match=words):
        parse_address(text)


def test_a_token_is_needed() -> None:
    for token in ("", "two\nlines", "ключ"):
        with pytest.raises(AnimaticError, match="token"):
            RemoteEngine("localhost:1", token)


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    return Certificate.make(tmp_path)


@pytest.fixture
def tls_port(service, certificate: Certificate) -> Iterator[int]:
    with tls_proxy(service.port, certificate) as port:
        yield port


def test_over_tls(
    service, tls_port: int, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"https://localhost:{tls_port}"
    with pytest.raises(EngineGone, match="certificate that this machine does not trust"):
        RemoteEngine(address, service.token).client().health()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    engine = RemoteEngine(address, service.token)
    with engine as entered:
        assert entered.client().health()["protocol"] == 1
    assert engine.client().health()["worker"]  # leaving the context stopped nothing
    with pytest.raises(EngineRefused, match="token"):
        RemoteEngine(address, "x" * 30).client().health()
    with pytest.raises(EngineGone, match="does not speak TLS"):
        RemoteEngine(f"https://localhost:{service.port}", service.token).client().health()


def test_through_a_tunnel(service) -> None:
    engine = RemoteEngine(f"http://localhost:{service.port}", service.token)
    assert engine.client().health()["protocol"] == 1
    assert [model["name"] for model in engine.client().models()] == ["tiny"]
    with pytest.raises(EngineRefused, match=r'no checkpoint "large"\. It has: tiny'):
        engine.find("large")
