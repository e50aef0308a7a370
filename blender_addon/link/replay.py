"""Runs a request, or one take of it, again from the files of an earlier run; needs no Blender.

One that is there writes the video of in-between frames.
"""

from __future__ import annotations

import shutil
import threading
from fractions import Fraction
from pathlib import Path

from ..errors import AnimaticError
from ..shot.in_between_files import check_motion
from ..shot.motion_files import MOTION, STEADY
from ..shot.request import canonical_json
from ..shot.take_folder import OutputFolder, load_take
from ..shot.timing import decimal
from .background import blender_command
from .generate import Host, Outcome, finish_takes, start_engine
from .job import run_job
from .progress import OnEvent, Progress

USUAL_RATE = "24"
"""Frames per second where neither the artist nor a scene says."""


class Replay:
    """A run of ``file`` (take.json or request.json) that another thread may cancel.

    A take is replayed with its own seed and execution plan, and so to the same bits on the same
    machine; a request is run as a new one. With another ``seed`` it is a new take of the same
    guides. ``in_between`` asks for frames at a rate also where the run had none; 0 is the scene's.
    """

    def __init__(
        self,
        file: Path,
        out: Path | None,
        host: Host,
        force: bool = False,
        seed: int | None = None,
        in_between: Fraction | None = None,
    ) -> None:
        self.file = file
        self.out = out
        self.host = host
        self.force = force
        self.seed = seed
        self.in_between = in_between
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Stop within one sampling step."""
        self._cancelled.set()

    def run(self, on_event: OnEvent) -> Outcome:
        """Sample the frames again. Raises AnimaticError; the output folder is then as before."""
        progress = Progress(on_event, self._cancelled)
        take, request, guides = load_take(self.file)
        plan = None
        if take is not None:
            request, plan = {**request, "seeds": [take["seed"]]}, take["plan"]
        if self.seed is not None:
            request, plan = {**request, "seeds": [self.seed]}, None
        checkpoint = self.host.find(request["checkpoint"]["name"])
        shot = shot_of(request, self.in_between)
        between = bool(shot.get("in_between"))
        places = (g.parent.parent if g.parent.name == STEADY else g.parent for g in guides.values())
        home = next(places, Path())
        exact = between and bool(request.get("shot", {}).get("in_between"))
        exact = exact and shot["scene_fps"] == request["shot"]["scene_fps"]
        if exact:
            check_motion(shot, home)
        out = self.out or OutputFolder.next_free(self.file.resolve().parent)
        with OutputFolder.prepare(out, force=self.force) as folder:
            (folder.staging / "request.json").write_bytes(canonical_json(request))
            (folder.staging / "guides").mkdir()
            for guide in guides.values():
                place = folder.staging / "guides" / guide.relative_to(home)
                place.parent.mkdir(exist_ok=True)
                shutil.copy(guide, place)
            if exact:
                shutil.copytree(home / MOTION, folder.staging / "guides" / MOTION)
            with start_engine(self.host, checkpoint) as engine:
                with progress.phase("engine"):
                    client = engine.client()
                takes = run_job(client, request, list(guides.values()), folder, progress, plan)
            blender = _blender(self.host) if between else None
            asked = {**request, "shot": shot}
            takes = finish_takes(asked, takes, folder, blender, progress, self.host.engine_python)
            progress.check()
            published = folder.publish()
        return Outcome(published, {"shot": shot}, takes, request, progress.seconds)


def shot_of(request: dict, rate: Fraction | None) -> dict:
    """The shot object, with in-between frames asked for at ``rate``; 0 is its own, or 24.

    Raises AnimaticError where the clip is as fast itself.
    """
    shot = request.get("shot", {})
    if rate is None or (rate == 0 and shot.get("in_between")):
        return shot
    clip = request["clip"]
    fps = Fraction(clip["fps"])
    rate = rate or Fraction(shot.get("scene_fps", USUAL_RATE))
    if rate <= fps:
        raise AnimaticError(
            f"The clip has {decimal(fps)} frames per second: at {decimal(rate)} there are none in "
            "between. Ask for a higher rate."
        )
    if rate == Fraction(shot.get("scene_fps", 0)):
        return {**shot, "in_between": True}
    frames = max(1, int(clip["frames"] / fps * rate))
    return {"start": 1, "end": frames, "scene_fps": str(rate), "clip": clip, "in_between": True}


def _blender(host: Host) -> list[str] | None:
    """A Blender, where there is one: only the video at the scene's rate is written by it."""
    try:
        return blender_command(host.blender)
    except AnimaticError:
        return None
