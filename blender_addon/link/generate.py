"""One run from a .blend to a take on disk: guides, request, job, frames, strip.

The command line and the panel both drive this. It imports no bpy: whatever needs Blender happens
in a background Blender that opens the file and never saves over it.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import AnimaticError, Cancelled
from ..shot.also_guides import AlsoGuide, also_controls, check_also, merged
from ..shot.keyframes import parse_keyframes
from ..shot.long_clip import LongClip
from ..shot.own_pictures import OwnPictures
from ..shot.passes import Passes
from ..shot.request import Steering, build_request, canonical_json, check_asked, seeds_for
from ..shot.take_folder import OutputFolder, shown_files
from .background import blender_command, run_task
from .catalogue import Checkpoint, find_checkpoint, find_lora
from .engine_process import EngineProcess
from .in_between import add_in_between
from .job import run_job
from .progress import OnEvent, Progress
from .quality import STANDARD, Level, Quality, level_for, needs_guidance
from .remote import LocalEngine, RemoteEngine


@dataclass(frozen=True)
class GenerateSettings:
    """What the artist asked for. ``None`` means: what the model's card or the scene says.

    ``frames`` is a number of clip frames, ``range`` two scene frames (both inclusive),
    ``strength`` 0 to 2, ``guidance`` 1 to 30, ``keyframes`` as the command line spells them (with
    strengths of their own; see ``held_at``). ``near`` and ``far`` are scene units, ``crease``
    degrees between faces, ``lines_of`` a collection's name, ``line_thickness`` a factor on the
    width of lines that the model was made for: of the guides. ``in_between`` asks for a
    picture for every scene frame, ``deflicker`` for frames steadied along the scene's motion
    (None: where it suits model and quality), ``also`` for guides of further kinds.
    """

    blend: Path
    out: Path
    prompt: str = ""
    negative_prompt: str = ""
    guide: str = "depth"
    keyframes: str | None = None
    model: str = "blockout-mini"
    seed: int = 1
    takes: int = 1
    frames: int | None = None
    steps: int | None = None
    guidance: float | None = None
    guidance_end: float | None = None
    strength: float = 1.0
    range: tuple[int, int] | None = None
    scene: str | None = None
    shot: str | None = None
    depth_method: str = "auto"
    near: float | None = None
    far: float | None = None
    crease: float | None = None
    lines_of: str | None = None
    line_thickness: float = 1.0
    in_between: bool = False
    deflicker: bool | None = None
    guides_only: bool = False
    write_blend: bool = True
    force: bool = False
    enable_autoexec: bool = False
    quality: Quality = STANDARD
    long_clip: LongClip = field(default_factory=LongClip)
    steering: Steering = field(default_factory=Steering)
    passes: Passes = field(default_factory=Passes)
    pictures: OwnPictures = field(default_factory=OwnPictures)
    also: tuple[AlsoGuide, ...] = ()

    def level(self, checkpoint: Checkpoint) -> Level:
        """Steps, guidance, schedule and LoRAs with ``checkpoint``."""
        return level_for(
            self.quality,
            checkpoint,
            steps=self.steps,
            guidance=self.guidance,
            schedule=self.passes.schedule,
            guidance_end=self.guidance_end,
            guided=needs_guidance(
                self.negative_prompt,
                self.steering.temporal,
                self.steering.guess,
                self.pictures.reference is not None,
            ),
        )

    def held_at(self, checkpoint: Checkpoint) -> str:
        """The keyframes asked for, or else those that suit ``checkpoint``."""
        return self.keyframes or checkpoint.keyframes.get(self.guide, "camera")

    def steadied(self, checkpoint: Checkpoint) -> str | None:
        """Whether frames are to be steadied along the scene's motion: "on" if it was asked for,
        "auto" if that suits model and quality.
        """
        if self.deflicker is None:
            return "auto" if checkpoint.deflicker and self.quality.deflicker else None
        return "on" if self.deflicker else None

    @property
    def prompts(self) -> list[str]:
        """The prompt, and those that follow it at keyframes."""
        return [self.prompt, *(text for _, text in self.steering.prompts)]

    def steered(self, level: Level) -> Steering:
        """The steering, with what the quality level brings to it."""
        return replace(
            self.steering,
            guidance_end=level.guidance_end,
            loras=(*self.steering.loras, *level.loras),
        )


@dataclass(frozen=True)
class Host:
    """Where the tools are; ``engine`` is one that runs already, with models of its own."""

    blender: Path | None = None
    engine_python: Path | None = None
    models: tuple[Path, ...] = ()
    device: str | None = None
    port: int = 0
    engine: RemoteEngine | LocalEngine | None = None

    def find(self, model: str) -> Checkpoint:
        """The model of this name, or folder. Raises AnimaticError where there is none."""
        if self.engine is not None:
            return self.engine.find(model)
        return find_checkpoint(model, list(self.models))


@dataclass
class Outcome:
    """What a run made: ``out`` the folder, ``shot`` the result of the guides task.

    ``notes`` are sentences about what is missing of it.
    """

    out: Path
    shot: dict | None = None
    takes: list[dict] = field(default_factory=list)
    request: dict | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def frames(self) -> list[list[Path]]:
        """What a strip shows of each take: one frame per clip frame, or per scene frame."""
        return [shown_files(self.out, index) for index in range(len(self.takes))]


class Generation:
    """A run that another thread may cancel; ``run`` may be called once."""

    def __init__(self, settings: GenerateSettings, host: Host) -> None:
        self.settings = settings
        self.host = host
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Stop as soon as possible: within one sampling step, or a tenth of a second elsewhere."""
        self._cancelled.set()

    def run(self, on_event: OnEvent) -> Outcome:
        """Do everything and return what was made.

        ``on_event`` gets ``{"phase", "done", "of", "text"}`` (with ``take`` and ``takes`` while the
        engine samples) and ``{"preview": JPEG bytes, "frames"}`` from this thread or a helper
        thread. Raises AnimaticError with a sentence, Cancelled among them; the output folder is
        then as it was before.
        """
        settings, progress = self.settings, Progress(on_event, self._cancelled)
        checkpoint = _checked(settings, self.host)
        blender = blender_command(self.host.blender)
        prepared = OutputFolder.prepare(settings.out, force=settings.force, source=settings.blend)
        with prepared as folder:
            if settings.guides_only:
                shot = _render_guides(settings, folder, checkpoint, blender, progress)
                outcome = Outcome(settings.out, shot)
            else:
                outcome = self._make(folder, checkpoint, blender, progress)
            progress.check()
            outcome.out = folder.publish()
        outcome.seconds = progress.seconds
        return outcome

    def _make(
        self, folder: OutputFolder, checkpoint: Checkpoint, blender: list[str], progress: Progress
    ) -> Outcome:
        settings = self.settings
        # The engine loads its libraries while Blender renders the guides.
        with start_engine(self.host, checkpoint) as engine:
            shot = _render_guides(settings, folder, checkpoint, blender, progress)
            with progress.phase("engine"):
                client = engine.client()
                content = client.model(checkpoint.name)["sha256"]
            level = settings.level(checkpoint)
            steering = settings.steered(level)
            request = build_request(
                shot,
                prompt=settings.prompt,
                negative_prompt=settings.negative_prompt,
                checkpoint={"name": checkpoint.name, "sha256": content},
                seeds=seeds_for(settings.seed, settings.takes),
                steps=level.steps,
                guidance=level.guidance,
                strength=settings.strength,
                strengths=dict(parse_keyframes(settings.held_at(checkpoint)).strengths),
                steering=steering,
                lora_hashes={name: find_lora(checkpoint, name) for name, _ in steering.loras},
            )
            if settings.also:
                request["controls"] += also_controls(shot, settings.also, steering)
            own = settings.pictures.place(folder.staging / "guides")
            request |= own.request
            request["sampling"] |= own.sampling
            request["sampling"] |= settings.long_clip.sampling(checkpoint.frames)
            request["sampling"] |= replace(settings.passes, schedule=level.schedule).sampling()
            (folder.staging / "request.json").write_bytes(canonical_json(request))
            sent = (*shot["guides"], *shot["motions"])
            guides = [folder.staging / "guides" / each["file"] for each in sent]
            takes = run_job(client, request, [*guides, *own.files], folder, progress)
        takes = finish_takes(request, takes, folder, blender, progress, self.host.engine_python)
        outcome = Outcome(settings.out, shot, takes, request)
        if settings.write_blend:
            try:
                with progress.phase("write"):
                    _write_blend(settings, folder, shot, takes, blender, progress)
            except Cancelled:
                raise
            except AnimaticError as error:  # no reason to lose the frames
                outcome.notes.append(f"The frames are there, shot.blend is not: {error}")
        return outcome


def finish_takes(
    request: dict,
    takes: list[dict],
    folder: OutputFolder,
    blender: list[str] | None,
    progress: Progress,
    engine_python: Path | None = None,
) -> list[dict]:
    """Add what the host makes of takes that came back: in-between frames where they are asked for.

    Returns the takes' take.json. Without a ``blender`` there is no video at the scene's rate.
    """
    folders = [folder.take(index) for index in range(len(takes))]
    guides = folder.staging / "guides"
    return add_in_between(request["shot"], guides, takes, folders, blender, progress, engine_python)


def start_engine(host: Host, checkpoint: Checkpoint) -> EngineProcess | RemoteEngine | LocalEngine:
    """Start an engine that offers ``checkpoint``; use it as a context, and it ends with it.

    One that runs already is used instead, and goes on running.
    """
    if host.engine is not None:
        return host.engine
    return EngineProcess(
        python=host.engine_python,
        models=[checkpoint.folder],
        device=host.device,
        port=host.port,
    )


def _checked(settings: GenerateSettings, host: Host) -> Checkpoint:
    """Refuse what cannot work before anything is started; return the checkpoint."""
    if not settings.blend.is_file():
        raise AnimaticError(f"There is no file {settings.blend}.")
    if not settings.guides_only and not settings.prompt.strip():
        raise AnimaticError("The prompt is empty: say what the picture shows.")
    seeds_for(settings.seed, settings.takes)
    settings.long_clip.check()
    settings.passes.check()
    settings.pictures.check()
    checkpoint = host.find(settings.model)
    parse_keyframes(settings.held_at(checkpoint))
    level = settings.level(checkpoint)
    steering = settings.steered(level)
    steering.check(settings.guide)
    check_asked(
        settings.prompt,
        settings.negative_prompt,
        level.steps,
        level.guidance,
        settings.strength,
    )
    if not settings.guides_only and settings.guide not in checkpoint.guides:
        raise AnimaticError(
            f"{checkpoint.name} has no encoder for the guide {settings.guide!r}; "
            f"it has: {', '.join(checkpoint.guides)}."
        )
    wanted, has = steering.encoder, checkpoint.encoders.get(settings.guide, ())
    if not settings.guides_only and wanted is not None and wanted not in has:
        raise AnimaticError(
            f"{checkpoint.name} has no {wanted} encoder for the guide {settings.guide!r}; it has: "
            f"{', '.join(has)}."
        )
    if settings.pictures.reference is not None and not checkpoint.image_prompt:
        raise AnimaticError(
            f"{checkpoint.name} takes no reference picture: it has no image encoder and "
            "IP-Adapter. Leave the picture out, or use a model that has them."
        )
    for name, _ in steering.loras:
        find_lora(checkpoint, name)
    if settings.also:
        own = AlsoGuide(settings.guide, settings.held_at(checkpoint), encoder=wanted)
        check_also([own, *settings.also], checkpoint.encoders, checkpoint.name)
    return checkpoint


def guides_task(settings: GenerateSettings, checkpoint: Checkpoint, out: Path) -> dict:
    """What a background Blender is told to render the shot's guides into ``out``."""
    return {
        "task": "guides",
        "blend": str(settings.blend.resolve()),
        "out": str(out),
        "scene": settings.scene,
        "shot": settings.shot,
        "range": settings.range,
        "guide": settings.guide,
        "keyframes": settings.held_at(checkpoint),
        "size": {"native": checkpoint.native, "multiple": 8},
        "frames": settings.frames,
        "model": {
            "frames": settings.long_clip.most_frames(checkpoint.frames),
            "fps": str(checkpoint.fps),
        },
        "lineart_width": checkpoint.lineart_width,
        "line_thickness": settings.line_thickness if settings.line_thickness != 1 else None,
        "depth_method": settings.depth_method,
        "near": settings.near,
        "far": settings.far,
        "crease": settings.crease,
        "lines_of": settings.lines_of,
        "in_between": settings.in_between and not settings.guides_only,
        "deflicker": None if settings.guides_only else settings.steadied(checkpoint),
        "enable_autoexec": settings.enable_autoexec,
    }


def _render_guides(
    settings: GenerateSettings,
    folder: OutputFolder,
    checkpoint: Checkpoint,
    blender: list[str],
    progress: Progress,
) -> dict:
    guides = folder.staging / "guides"
    guides.mkdir()
    with progress.phase("guides"):
        shot = run_task(blender, guides_task(settings, checkpoint, guides), progress)
        others: list[dict] = []
        for each in settings.also:
            # In a Blender of its own: rendering a kind of guide changes the scene for good.
            asked = replace(
                settings, guide=each.guide, keyframes=each.keyframes, guides_only=True, also=()
            )
            depth = next((made["depth"] for made in (shot, *others) if made["depth"]), None)
            if depth is not None and each.guide == "depth":
                asked = replace(asked, near=depth["near"], far=depth["far"])  # one for the shot
            with tempfile.TemporaryDirectory(prefix="animatic-") as scratch:
                task = guides_task(asked, checkpoint, Path(scratch))
                others.append(run_task(blender, task, progress))
                for guide in others[-1]["guides"]:
                    shutil.copyfile(Path(scratch, guide["file"]), guides / guide["file"])
        return merged(shot, others) if others else shot


def _write_blend(
    settings: GenerateSettings,
    folder: OutputFolder,
    shot: dict,
    takes: list[dict],
    blender: list[str],
    progress: Progress,
) -> None:
    task = {
        "task": "strip",
        "blend": str(settings.blend.resolve()),
        "out_blend": str(folder.staging / "shot.blend"),
        "shot": shot["shot"],
        "takes": [
            [str(frame) for frame in shown_files(folder.staging, index)]
            for index in range(len(takes))
        ],
    }
    run_task(blender, task, progress)
