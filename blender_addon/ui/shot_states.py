"""How far each shot is, for the list of shots. No bpy."""

from __future__ import annotations

from enum import Enum


class ShotState(Enum):
    """Its value is the word for it; ``icon`` is Blender's."""

    NOT_YET = "Not made yet", "RADIOBUT_OFF"
    QUEUED = "Waits for its turn", "SORTTIME"
    RUNNING = "Is being made", "RENDER_ANIMATION"
    DONE = "Has takes", "CHECKMARK"
    FAILED = "Failed", "ERROR"

    @property
    def icon(self) -> str:
        """The icon that stands for it."""
        return str(self.value[1])


_told: dict[tuple[str, str], ShotState] = {}


def tell(scene: str, shot: str, state: ShotState) -> None:
    """Note what has become of a shot of the open file."""
    _told[scene, shot] = state


def state_of(scene: str, shot: str, takes: int) -> ShotState:
    """The state of a shot of which there are ``takes``."""
    usual = ShotState.DONE if takes else ShotState.NOT_YET
    return _told.get((scene, shot), usual)


def settle(state: ShotState) -> None:
    """Forget the shots that are in ``state``: their takes say what they are."""
    for shot in [shot for shot, told in _told.items() if told is state]:
        del _told[shot]


def forget() -> None:
    """Another file is open."""
    _told.clear()
