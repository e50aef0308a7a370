"""What the tests of every environment have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def cpu_without_bfloat16() -> Iterator[None]:
    """What is compared is compared in float32, on CPUs of every kind. Blender has no torch."""
    try:
        import torch
    except ImportError:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", dict)
        yield
