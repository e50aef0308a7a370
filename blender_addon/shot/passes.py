"""How the model goes from noise to the clip: noise schedule, and a second pass at a larger size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import ShotError

SCHEDULES = ("ddim", "dpm", "lcm")
SCALES = (1.25, 2.0)
SHARES = (0.1, 0.9)
# How much of the steps the second pass makes: enough to draw what enlarging cannot, and too little
# to move what is there.
USUAL_SHARE = 0.4


@dataclass(frozen=True)
class Passes:
    """What may be asked for; by itself it asks for nothing.

    ``schedule`` is "ddim" (the papers' own, many steps), "dpm" (few steps, any model) or "lcm"
    (models that are distilled for it); ``upscale`` is how much larger the frames become in a second
    pass (1.25 to 2) and the share of the steps that it makes (0.1 to 0.9).
    """

    schedule: str | None = None
    upscale: tuple[float, float] | None = None

    def check(self) -> None:
        """Raise ShotError where this is out of the request's limits."""
        if self.schedule not in (None, *SCHEDULES):
            raise ShotError(f"{self.schedule!r} is no schedule: use {', '.join(SCHEDULES)}.")
        if self.upscale is None:
            return
        for name, value, (least, most) in zip(
            ("upscale", "upscale's share of the steps"), self.upscale, (SCALES, SHARES), strict=True
        ):
            if not least <= value <= most:
                raise ShotError(f"The {name} is {value:g}: set it from {least:g} to {most:g}.")

    def sampling(self) -> dict[str, Any]:
        """What a request's sampling holds of this."""
        asked: dict[str, Any] = {} if self.schedule is None else {"schedule": self.schedule}
        if self.upscale is not None:
            scale, share = (float(value) for value in self.upscale)
            asked["upscale"] = {"scale": scale, "share": share}
        return asked
