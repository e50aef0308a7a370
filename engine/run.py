"""The engine's interface: the only thing the service knows of it.

``describe`` a checkpoint folder, ``Engine.load`` it, ``Engine.generate`` takes from requests; tell
by ``out_of_memory`` what an error means.
"""

import gc
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .attention import TemporalAttention
from .checkpoint import content_hash, describe, read_info
from .decode import PreviewDecoder, decode
from .deflicker import check_motions, deflicker, steadied
from .device import (
    Plan,
    applied,
    default_plan,
    forced_plan,
    memory_sentence,
    out_of_memory,
    release_memory,
    synchronise,
    version_notes,
)
from .errors import Cancelled, EngineError
from .first_frame import first_frame_shared, generated
from .parts import Parts, load_parts
from .passes import TakeMaker
from .pictures import read_picture
from .request import check_optional_parts, check_request
from .residuals import ResidualCache, cache_for
from .sampling import cancel_check
from .text import cut_notes, encode_request

__all__ = ["Cancelled", "Engine", "EngineError", "Take", "describe", "out_of_memory"]

OnEvent = Callable[[dict[str, Any]], None]
PREVIEWS = 8
# What of a plan the models in memory are bound to.
LOADED_AS = ("device", "dtype", "compiled", "channels_last")
# What is stepped down where memory runs out, as the artist is told.
_STEPPED_DOWN = {
    "sampling": "less was computed at once and nothing kept for other takes, which takes longer. A "
    "smaller size or fewer frames need less",
    "decode": "fewer frames were decoded at once, which takes longer",
}


@dataclass(frozen=True)
class Take:
    """One result: ``frames`` uint8 [F, H, W, 3] in sRGB, the plan that made them (as in take.json),
    the seconds of each phase, and sentences that the artist should read.
    """

    frames: np.ndarray
    plan: dict[str, Any]
    seconds: dict[str, float]
    notes: list[str] = field(default_factory=list)


OnTake = Callable[[int, Take], None]


@dataclass
class _Order:
    """What was asked for, and how far it is; a second attempt goes on from here."""

    request: Mapping[str, Any]
    guides: Mapping[str, Path]
    seeds: Sequence[int]
    plan: dict[str, Any] | None
    on_event: OnEvent
    on_take: OnTake
    check: Callable[[], None]
    together: bool | None
    started: float
    stage: str = "sampling"
    notes: list[str] = field(default_factory=list)
    latents: dict[int, torch.Tensor] = field(default_factory=dict)
    made: int = 0

    def phase(self, name: str, done: int, of: int, take: int, **more: Any) -> None:
        """Tell how far take number ``take`` is."""
        self.on_event(
            {"type": "phase", "phase": name, "done": done, "of": of, "take": take, **more}
        )


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
        self._compiled: set[torch.nn.Module] = set()

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

    def load(
        self, checkpoint_dir: Path, on_event: OnEvent, plan: dict[str, Any] | None = None
    ) -> None:
        """Load a checkpoint folder for takes under ``plan`` (as ``generate_takes`` gets it), unless
        it is already loaded so.

        Sends {"type": "phase", "phase": "load", "done", "of"}. Raises EngineError naming the file
        that is missing, damaged, or another than expected.
        """
        wanted = self._plan if plan is None else forced_plan(plan)
        self._load(Path(checkpoint_dir), wanted, on_event)

    def generate(
        self,
        request: Mapping[str, Any],
        guides: Mapping[str, Path],
        seed: int,
        on_event: OnEvent,
        should_cancel: Callable[[], bool],
        plan: dict[str, Any] | None = None,
    ) -> Take:
        """Make one take of ``request`` with ``seed``; the rest as for ``generate_takes``."""
        takes: list[Take] = []
        made: OnTake = lambda _, take: takes.append(take)  # noqa: E731
        self.generate_takes(request, guides, [seed], on_event, made, should_cancel, plan)
        return takes[0]

    def generate_takes(
        self,
        request: Mapping[str, Any],
        guides: Mapping[str, Path],
        seeds: Sequence[int],
        on_event: OnEvent,
        on_take: OnTake,
        should_cancel: Callable[[], bool],
        plan: dict[str, Any] | None = None,
        together: bool | None = None,
    ) -> None:
        """Make a take of ``request`` with each of ``seeds``; ``on_take(index, take)`` gets each.

        ``guides`` maps the content hashes in the request to PNG files. ``on_event`` gets phases
        (load, control, sampling, decode) and previews {"type": "preview", "jpeg", "step"}, both
        with the "take" they belong to, from 0; ``should_cancel`` is asked several times in each
        step. ``plan`` is an earlier take's plan: with it, and the same machine and versions, the
        frames come out the same bit for bit.

        Takes share what the control encoders make. Where that finds room in memory they are made
        one after the other; else ``together``, step by step in turn, and their sampling phase
        counts the steps of all of them ("together": how many). Either way a take has the bits that
        it has by itself. Where memory runs out, and no plan is forced, a smaller plan is tried
        once for sampling and in two steps for decoding, and no residuals are kept; the take's notes
        tell. Raises Cancelled, or EngineError with a sentence.
        """
        wanted = self._plan if plan is None else forced_plan(plan)
        check = cancel_check(should_cancel)
        started = time.perf_counter()
        try:
            self._load(self.parts.info.folder, wanted, on_event)
            self._cache = cache_for(wanted, self._cache)
            order = _Order(
                request, guides, seeds, plan, on_event, on_take, check, together, started
            )
            while (stopped := self._attempt(order)) is not None:
                # Only here, where no frame of the failed attempt holds its tensors any more. The
                # next attempt has no budget, and keeps nothing.
                self._cache = ResidualCache(0)
                if not out_of_memory(stopped):
                    raise stopped
                self.parts.unload_encoders()
                self._compiled &= {self.parts.unet}
                release_memory(wanted.torch_device)
                smaller = None if plan is not None else self.parts.plan.smaller(order.stage)
                if smaller is None:
                    clip = request["clip"]
                    size = clip["width"], clip["height"], clip["frames"]
                    raise EngineError(memory_sentence(wanted, *size, str(stopped)))
                self.parts.plan = smaller
                note = f"Memory ran out once: {_STEPPED_DOWN[order.stage]}."
                order.notes += [note] if note not in order.notes else []
        finally:
            # Between jobs Blender may render on the same card.
            release_memory(wanted.torch_device)

    def _load(self, folder: Path, plan: Plan, on_event: OnEvent) -> Parts:
        def progress(done: int, of: int) -> None:
            on_event({"type": "phase", "phase": "load", "done": done, "of": of})

        held = self._parts
        if (
            held is not None
            and held.info.folder == folder
            and all(getattr(held.plan, entry) == getattr(plan, entry) for entry in LOADED_AS)
            and held.sha256 == content_hash(info := read_info(folder))
        ):
            # Parts that may be added may have been.
            held.plan, held.info = plan, info
            return held
        # The old checkpoint goes first, to its last reference: two at once may not fit.
        held = self._parts = self._preview = None
        self._compiled.clear()
        self._cache = ResidualCache(0)
        gc.collect()  # compiled models hold themselves
        release_memory(plan.torch_device)
        self._parts = load_parts(folder, plan, progress)
        return self._parts

    def _attempt(self, order: _Order) -> Exception | None:
        """Make what is left of ``order``; what stopped it, if it is foreseen, without the frames
        (and tensors) it came through.
        """
        try:
            with applied(self.parts.plan), torch.inference_mode():
                self._make(order)
        except (Cancelled, EngineError) as error:
            return error.with_traceback(None)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return MemoryError(str(error))
        return None

    def _make(self, order: _Order) -> None:
        parts, request, plan = self.parts, order.request, self.parts.plan
        check_request(request, parts)
        optional = check_optional_parts(request, parts, order.plan)
        # After a take for which memory was short it waits elsewhere. LoRAs are merged where a model
        # is, and on another device they have other bits.
        torch.nn.Module.to(parts.text_encoder, plan.torch_device)
        parts.loras.use(request["loras"])
        clock = time.perf_counter()
        seconds = {"load": clock - order.started, "control": 0.0, "sampling": 0.0}
        order.check()
        stored = plan.to_json() | ({"parts": optional} if optional else {})
        known = version_notes(order.plan or {}) + cut_notes(parts, request)
        with ExitStack() as changed:
            maker = self._maker(order, changed)
            seconds["control"] = time.perf_counter() - clock
            for index in range(order.made, len(order.seeds)):
                if index not in order.latents:
                    left = range(index, len(order.seeds))
                    self._sample(order, maker, [k for k in left if k not in order.latents], seconds)
                clock, order.stage = time.perf_counter(), "decode"
                frames, notes = self._frames(order, index)
                seconds["decode"], order.stage = time.perf_counter() - clock, "sampling"
                notes = [*known, *maker.notes, *order.notes, *notes]
                take = Take(frames, stored, seconds, notes)
                del order.latents[index]
                order.made = index + 1
                order.on_take(index, take)
                if order.latents:  # made together: they share what it took
                    seconds = {**seconds, "load": 0.0}
                else:
                    seconds = {"load": 0.0, "control": 0.0, "sampling": 0.0}

    def _frames(self, order: _Order, index: int) -> tuple[np.ndarray, list[str]]:
        """Make the finished frames of a take's latents, with what is to be told of them."""
        parts, request, decoded = self.parts, order.request, order.request["clip"]["frames"]
        parts.vae.to(parts.plan.torch_device)

        def tell(before: int, done: int) -> None:
            order.phase("decode", before + done, decoded + len(steadied(request)), index)
            order.check()

        latents, batch = order.latents[index], parts.plan.decode_batch
        frames, notes = decode(parts, latents, batch, order.check, partial(tell, 0))
        return deflicker(frames, request, order.guides, partial(tell, decoded)), notes

    def _maker(self, order: _Order, changed: ExitStack) -> TakeMaker:
        """What makes the takes; the models are changed as asked until ``changed`` is left."""
        parts, request, plan = self.parts, order.request, self.parts.plan
        check_motions(request, order.guides, order.check)
        parts.vae.to(plan.torch_device)
        if self._preview is None:
            self._preview = PreviewDecoder(parts)
        text = encode_request(parts, request)
        image, reference = None, request.get("image_prompt")
        if reference is not None and reference["scale"] > 0:
            picture = read_picture(reference["sha256"], order.guides, "reference picture")
            image = parts.image_prompt().tokens(picture, len(text))
            changed.enter_context(parts.image_prompt().applied(parts.unet, reference["scale"]))
        attention = TemporalAttention.asked(request["sampling"])
        # The text as the encoders see it, which LoRAs may have changed, and not as it is written.
        seen = hashlib.sha256(text.float().cpu().numpy().tobytes()).hexdigest()
        maker = TakeMaker(
            parts,
            request,
            order.guides,
            text,
            image,
            self._cache,
            (parts.sha256, plan, seen, attention),
            order.check,
            lambda done, of: order.phase("control", done, of, order.made),
        )
        if plan.compiled:
            for model in {parts.unet, *maker.encoders} - self._compiled:
                model.compile()
                self._compiled.add(model)
        if attention is not None:
            changed.enter_context(attention.applied(parts.unet, maker.encoders))
        first = request["sampling"].get("first_frame")
        if first is not None and first["share"]:
            changed.enter_context(first_frame_shared(parts.unet, request["clip"]["frames"]))
        return maker

    def _sample(
        self, order: _Order, maker: TakeMaker, left: list[int], seconds: dict[str, float]
    ) -> None:
        """Make the latents of the first take that is ``left``, or of all of them together."""
        clock, computed = time.perf_counter(), maker.control_seconds
        if self.parts.plan.guidance_batch == 1:
            # Memory is short, and sampling needs neither.
            torch.nn.Module.to(self.parts.text_encoder, "cpu")
            self.parts.vae.to("cpu")
            release_memory(self.parts.plan.torch_device)
        of, first = maker.steps, left[0]
        runs = {k: maker.take(order.seeds[k]) for k in left}
        done = dict.fromkeys(left, 0)

        def tell(k: int, seen: torch.Tensor) -> None:
            synchronise(seen.device)
            done[k] += 1
            if together:
                steps, more = sum(done.values()), {"together": len(left)}
                order.phase("sampling", steps, of * len(left), k, **more)
            else:
                order.phase("sampling", done[k], of, k)
            if k == first and (done[k] == of or done[k] % max(1, of // PREVIEWS) == 0):
                assert self._preview is not None
                jpeg = self._preview.jpeg(seen)
                if jpeg is not None:
                    order.on_event({"type": "preview", "jpeg": jpeg, "step": done[k], "take": k})
            order.check()

        # A picture that is made beside the clip asks for each step's residuals once more.
        twice = len(left) > 1 or generated(order.request["sampling"])
        with self._cache.lockstep() if twice else nullcontext():
            seen = next(runs[first])
            # What one step's residuals take tells whether all of them find room.
            together = len(left) > 1 and (
                not self._cache.holds(maker.residual_steps)
                if order.together is None
                else order.together
            )
            tell(first, seen)
            if not together:
                runs = {first: runs[first]}
            waiting = [k for k in runs if k != first]
            while runs:
                for k in waiting or list(runs):
                    try:
                        tell(k, next(runs[k]))
                    except StopIteration as end:
                        order.latents[k] = end.value
                        del runs[k]
                waiting = []
        share = len(left) if together else 1
        computed = maker.control_seconds - computed
        seconds["control"] += computed / share
        seconds["sampling"] += (time.perf_counter() - clock - computed) / share
