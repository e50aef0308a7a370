"""Lets a request through only from someone who was given the token, on this machine, in our words.

A loopback port is open to every program and every web page on the machine. The token keeps out
programs, the Host check keeps out DNS rebinding, the Origin check keeps out pages.
"""

import hmac
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PROTOCOL = 1
PROTOCOL_HEADER = "X-Animatic-Protocol"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Guard:
    """ASGI middleware that refuses with ``{"error": sentence}``.

    Args:
        app: what is behind the guard.
        token: the secret that the launcher was given.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on."""
        if scope["type"] != "http":
            return
        refusal = self._refusal(Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            status, sentence = refusal
            answer = JSONResponse({"error": sentence, "protocol": PROTOCOL}, status)
            await answer(scope, receive, send)

    def _refusal(self, headers: Headers) -> tuple[HTTPStatus, str] | None:
        host = headers.get("host", "")
        if host.rpartition(":")[0] not in LOOPBACK and host not in LOOPBACK:
            return HTTPStatus.FORBIDDEN, "The engine answers on this machine only."
        if "origin" in headers:
            return HTTPStatus.FORBIDDEN, "The engine does not answer web pages."
        given = headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, self._expected):
            return HTTPStatus.UNAUTHORIZED, "The token is missing or not this engine's."
        spoken = headers.get(PROTOCOL_HEADER, "none")
        if spoken != str(PROTOCOL):
            return HTTPStatus.UPGRADE_REQUIRED, (
                f"The engine speaks protocol {PROTOCOL}, the add-on speaks {spoken[:20]}: "
                "install the same version of both."
            )
        return None
