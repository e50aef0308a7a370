"""What `animatic serve` leaves for other programs to find."""

from __future__ import annotations

import os
import stat

import pytest
from animatic.cli import write_secret


@pytest.mark.skipif(os.name == "nt", reason="file modes")
def test_the_token_is_the_users_alone_whatever_lay_there(tmp_path):
    token = tmp_path / "token"
    token.write_text("older")
    token.chmod(0o644)
    with token.open() as held:
        write_secret(token, "newer")
        assert held.read() == "older"
    assert token.read_text() == "newer"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
