"""The engine's interface: the only thing the service knows of it.

``describe`` a checkpoint folder, ``Engine.load`` it, ``Engine.generate`` takes from requests.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .attention import TemporalAttention
from .checkpoint import content_hash, describe, read_info
from .conditions import build_condition, read_guide
from .decode import PreviewDecoder, decode
from .device import (
    Plan,
    applied,
    default_plan,
    forced_plan,
    free_memory,
    memory_as_sentence,
    release_memory,
    version_note,
)
from .errors import Cancelled, EngineError
from .first_frame import Renoised, first_frame_shared
from .parts import Parts, load_parts
from .request import check_request
from .residuals import ControlBranch, ResidualCache
from .sampling import Denoiser, cancel_check, sample, starting_noise
from .text import cut_note, encode_request
from .vae import encode
from .windows import Context, WindowedDenoiser, free_noise

__all__ = ["Cancelled", "Engine", "EngineError", "Take", "describe"]

OnEvent = Callable[[dict[str, Any]], None]
PREVIEWS = 8


@dataclass(frozen=True)
class Take:
    """One result: ``frames`` uint8 [F, H, W, 3] in sRGB, the plan that made them (as in take.json),
    the seconds of each phase, and sentences that the artist should read.
    """

    frames: np.ndarray
    plan: dict[str, Any]
    seconds: dict[str, float]
    notes: list[str] = field(default_factory=list)


class Engine:
    """Holds one checkpoint at a time and makes takes with it.

    ``device`` is "cuda" (also ROCm), "mps" or "cpu"; None takes the fastest there is. Not for use
    from several threads at once.
    """

    def __init__(self, device: str | None = None) -> None:
        self._plan = default_plan(device)
        self._parts: Parts | None = None
        self._preview: PreviewDecoder | None = None
        self._cache = ResidualCache(0)

    @property
    def device(self) -> str:
        """The device that takes are made on unless a plan is forced."""
        return self._plan.device

    @property
    def parts(self) -> Parts:
        """The loaded checkpoint's parts. Raises EngineError where none is loaded."""
        if self._parts is None:
            raise EngineError("No checkpoint is loaded. Load one before generating.")
        return self._parts

    def load(self, checkpoint_dir: Path, on_event: OnEvent) -> None:
        """Load a checkpoint folder, unless it is the one already loaded.

        Sends {"type": "phase", "phase": "load", "done", "of"}. Raises EngineError naming the file
        that is missing, damaged, or another than expected.
        """
        self._load(Path(checkpoint_dir), self._plan, on_event)

    def generate(
        self,
        request: Mapping[str, Any],
        guides: Mapping[str, Path],
        seed: int,
        on_event: OnEvent,
        should_cancel: Callable[[], bool],
        plan: dict[str, Any] | None = None,
    ) -> Take:
        """Make one take of ``request`` with ``seed``.

        ``guides`` maps the content hashes in the request to PNG files. ``on_event`` gets phases
        (load, control, sampling, decode) and previews {"type": "preview", "jpeg", "step"};
        ``should_cancel`` is asked several times in each step. ``plan`` is an earlier take's plan:
        with it, and the same machine and versions, the frames come out the same bit for bit.
        Raises Cancelled, or EngineError with a sentence.
        """
        started = time.perf_counter()
        folder = self.parts.info.folder
        wanted = self._plan if plan is None else forced_plan(plan)
        parts = self._load(folder, wanted, on_event)
        clip = request["clip"]
        try:
            with (
                applied(wanted),
                memory_as_sentence(wanted, clip["width"], clip["height"], clip["frames"]),
                torch.inference_mode(),
            ):
                check_request(request, parts)
                parts.loras.use(request["loras"])
                seconds = {"load": time.perf_counter() - started}
                frames = self._compute(
                    request, guides, seed, on_event, cancel_check(should_cancel), parts, seconds
                )
        except (Cancelled, EngineError):
            self._cache = ResidualCache(0)
            release_memory(wanted.torch_device)
            raise
        notes = [cut_note(parts, request["prompt"]), version_note(plan or {})]
        notes += [
            cut_note(parts, entry["prompt"], f"The prompt at clip frame {entry['clip_frame']}")
            for entry in request.get("prompts", [])
        ]
        return Take(frames, wanted.to_json(), seconds, [note for note in notes if note])

    def _load(self, folder: Path, plan: Plan, on_event: OnEvent) -> Parts:
        def progress(done: int, of: int) -> None:
            on_event({"type": "phase", "phase": "load", "done": done, "of": of})

        held = self._parts
        if (
            held is not None
            and (held.info.folder, held.plan.device, held.plan.dtype)
            == (folder, plan.device, plan.dtype)
            and held.sha256 == content_hash(read_info(folder))
        ):
            held.plan = plan
            return held
        # The old checkpoint goes first: two at once may not fit.
        self._parts = self._preview = None
        self._cache = ResidualCache(0)
        release_memory(plan.torch_device)
        self._parts = load_parts(folder, plan, progress)
        return self._parts

    def _compute(
        self,
        request: Mapping[str, Any],
        guides: Mapping[str, Path],
        seed: int,
        on_event: OnEvent,
        check: Callable[[], None],
        parts: Parts,
        seconds: dict[str, float],
    ) -> np.ndarray:
        clip, sampling, plan = request["clip"], request["sampling"], parts.plan

        def phase(name: str, done: int, of: int) -> None:
            on_event({"type": "phase", "phase": name, "done": done, "of": of})

        check()
        clock = time.perf_counter()
        text = encode_request(parts, request)
        controls = []
        of = len(request["controls"])
        for done, control in enumerate(request["controls"], start=1):
            check()
            condition = build_condition(parts, control, guides, clip)
            if condition is not None:
                controls.append((parts.control(control["guide"]), condition))
            phase("control", done, of)
        channels = parts.unet.config.in_channels
        size = (clip["height"] // parts.latent_scale, clip["width"] // parts.latent_scale)
        noise, generator = starting_noise(
            seed, (1, channels, clip["frames"], *size), plan.torch_device
        )
        context, attention = Context.asked(sampling), TemporalAttention.asked(sampling)
        if context is not None and sampling.get("noise") == "free":
            noise = free_noise(noise, context, generator)
        first = sampling.get("first_frame")
        trajectory = None
        if first is not None:
            picture = read_guide("render", first["sha256"], guides, clip["width"], clip["height"])
            picture = picture.to(plan.torch_device, plan.torch_dtype)
            trajectory = Renoised(encode(parts.vae, picture[None])[0].float(), noise[0, :, 0])
        if self._cache.budget == 0:
            self._cache = ResidualCache(free_memory(plan.torch_device) // 4)
        # The text as the encoders see it, which LoRAs may have changed, and not as it is written.
        seen = hashlib.sha256(text.float().cpu().numpy().tobytes()).hexdigest()
        branch = ControlBranch(
            controls, text, noise.shape[1:], self._cache, (parts.sha256, plan, seen, attention)
        )
        if self._preview is None:
            self._preview = PreviewDecoder(parts)
        preview = self._preview
        seconds["control"] = time.perf_counter() - clock

        def on_step(done: int, of: int, seen: torch.Tensor) -> None:
            phase("sampling", done, of)
            if done == of or done % max(1, of // PREVIEWS) == 0:
                on_event({"type": "preview", "jpeg": preview.jpeg(seen), "step": done})
            check()

        clock = time.perf_counter()
        denoiser = Denoiser(
            parts.unet,
            branch,
            text,
            sampling["guidance"],
            plan.guidance_batch,
            check,
            sampling.get("temporal", 1.0),
        )
        with ExitStack() as changed:
            if attention is not None:
                encoders = [encoder for encoder, _ in controls]
                changed.enter_context(attention.applied(parts.unet, encoders))
            if first is not None and first["share"]:
                changed.enter_context(first_frame_shared(parts.unet, clip["frames"]))
            latents = sample(
                denoiser
                if context is None
                else WindowedDenoiser(denoiser, context, clip["frames"]),
                parts.scheduler,
                noise,
                sampling["steps"],
                generator,
                on_step,
                trajectory,
            )
        seconds["sampling"] = time.perf_counter() - clock - branch.seconds
        seconds["control"] += branch.seconds
        clock = time.perf_counter()
        frames = decode(
            parts,
            latents,
            plan.decode_batch,
            check,
            lambda done: phase("decode", done, clip["frames"]),
        )
        seconds["decode"] = time.perf_counter() - clock
        return frames
