"""One pass of sampling at one size, and the way of a take through its passes.

A pass holds what all takes of a request share: conditions, control branch, denoiser. What differs
from take to take is the seed alone.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import ControlNetModel, SparseControlNetModel

from .conditions import Condition, build_condition
from .first_frame import Recorded, Renoised, Trajectory, generated
from .noise import noise_of, shared_side
from .parts import Parts
from .pictures import fitted, read_picture
from .residuals import ControlBranch, ResidualCache
from .sampling import Denoiser, steps_of, timesteps_of
from .schedules import scheduler_for
from .upscale import Upscale, enlarge, enlarge_guide
from .vae import encode
from .windows import Context, WindowedDenoiser, free_noise

Encoder: TypeAlias = SparseControlNetModel | ControlNetModel


@dataclass(frozen=True)
class Pass:
    """One size at which the clip is denoised.

    ``size`` is (height, width) in latent pixels; ``picture`` the latent of a first frame that is
    given, [C, h, w] float32; ``share`` of the steps are made, all of them where it is 1.
    """

    size: tuple[int, int]
    controls: list[tuple[Encoder, Condition]]
    branch: ControlBranch
    picture: torch.Tensor | None
    share: float = 1.0


class TakeMaker:
    """Makes the latents of takes of one request, a step at a time.

    ``text`` is what ``encode_request`` gives, ``image`` a reference picture's tokens; ``identity``
    stands for all that residuals depend on beside conditions and sizes; ``on_control(done, of)``
    counts conditions. ``notes`` are sentences that the artist should read. Raises EngineError for
    guides and pictures that cannot be used.
    """

    def __init__(
        self,
        parts: Parts,
        request: Mapping[str, Any],
        guides: Mapping[str, Path],
        text: torch.Tensor,
        image: torch.Tensor | None,
        cache: ResidualCache,
        identity: tuple[Any, ...],
        check: Callable[[], None],
        on_control: Callable[[int, int], None],
    ) -> None:
        self._parts = parts
        self._request = request
        self._guides = guides
        self._text = text
        self._image = image
        self._cache = cache
        self._identity = identity
        self._check = check
        sampling, clip = request["sampling"], request["clip"]
        sizes = [(clip["width"], clip["height"], 1.0)]
        upscale = Upscale.asked(sampling)
        if upscale is not None:
            larger = upscale.size(clip["width"], clip["height"], max(8, parts.latent_scale))
            sizes.append((*larger, upscale.share))
        self._of_controls = len(sizes) * len(request["controls"])
        self._on_control = on_control
        self.notes: list[str] = []
        self.passes = [self._pass(k, *size) for k, size in enumerate(sizes)]
        # Not of the request: a keyframe without strength is in no condition.
        keyed = {frame for _, condition in self.passes[0].controls for frame in condition.keyed}
        self._shared = shared_side(parts.info.shared_noise, keyed, clip["frames"])
        self._scheduler = scheduler_for(
            sampling.get("schedule"), parts.scheduler, self._shared, parts.info.timestep_shift
        )
        cache.keep_only(
            {
                (owner, t)
                for each in self.passes
                for owner in each.branch.owners
                for t in self._times(each)
            }
        )

    @property
    def encoders(self) -> list[Encoder]:
        """The control encoders that are used."""
        return [encoder for encoder, _ in self.passes[0].controls]

    @property
    def control_seconds(self) -> float:
        """What computing residuals took."""
        return sum(each.branch.seconds for each in self.passes)

    @property
    def steps(self) -> int:
        """Steps of a take, over all passes."""
        return sum(len(self._times(each)) for each in self.passes)

    @property
    def residual_steps(self) -> float:
        """All steps' residuals, in those of one step of the first pass: larger ones take more."""
        first = self.passes[0].size
        return sum(
            len(self._times(p)) * (p.size[0] * p.size[1]) / (first[0] * first[1])
            for p in self.passes
        )

    def take(self, seed: int) -> Generator[torch.Tensor, None, torch.Tensor]:
        """Gives the clip as it looks after each step; returns its latents [1, C, F, h, w]."""
        parts, sampling, clip = self._parts, self._request["sampling"], self._request["clip"]
        context, shared = Context.asked(sampling), self._shared
        generator, painting = torch.Generator().manual_seed(seed), torch.Generator()
        # The picture is what a clip of one frame with its seed begins with.
        painting.manual_seed(sampling.get("first_frame", {}).get("seed", seed))
        latents: torch.Tensor | None = None
        for each in self.passes:
            shape = (1, parts.unet.config.in_channels, clip["frames"], *each.size)
            noise = noise_of(generator, shape, parts.plan.torch_device, shared)
            clean = None if latents is None else enlarge(latents, *each.size)
            if context is not None and sampling.get("noise") == "free":
                noise = free_noise(noise, context, generator)
            denoiser = self._denoiser(each.branch)
            way: Trajectory | None = None
            if generated(sampling):
                canvas = noise_of(
                    painting, (*shape[:2], 1, *each.size), parts.plan.torch_device, shared
                )
                begun = None if clean is None else clean[:, :, :1]
                way = Recorded(denoiser.picture, canvas, painting, begun)
            elif each.picture is not None:
                way = Renoised(each.picture, noise[0, :, 0])
            latents = yield from steps_of(
                denoiser
                if context is None
                else WindowedDenoiser(denoiser, context, clip["frames"]),
                self._scheduler,
                noise,
                sampling["steps"],
                generator,
                way,
                clean,
                each.share,
            )
        assert latents is not None
        return latents

    def _times(self, each: Pass) -> list[float]:
        """The timesteps that a pass visits."""
        return timesteps_of(self._scheduler, self._request["sampling"]["steps"], each.share)

    def _denoiser(self, branch: ControlBranch) -> Denoiser:
        parts, sampling = self._parts, self._request["sampling"]
        return Denoiser(
            parts.unet,
            branch,
            self._text,
            sampling["guidance"],
            parts.plan.guidance_batch,
            self._check,
            sampling.get("temporal", 1.0),
            self._image,
            sampling.get("guidance_end", 1.0),
        )

    def _pass(self, number: int, width: int, height: int, share: float) -> Pass:
        parts, request = self._parts, self._request
        clip, asked = request["clip"], request["controls"]
        controls = []
        for done, control in enumerate(asked, start=1 + number * len(asked)):
            self._check()
            condition = build_condition(parts, control, self._guides, clip, (height, width))
            if condition is not None:
                encoder = parts.control(control["guide"], control.get("encoder"))
                controls.append((encoder, condition))
            self._on_control(done, self._of_controls)
        size = (height // parts.latent_scale, width // parts.latent_scale)
        shape = torch.Size((parts.unet.config.in_channels, clip["frames"], *size))
        branch = ControlBranch(controls, self._text, shape, self._cache, self._identity)
        return Pass(size, controls, branch, self._picture(width, height), share)

    def _picture(self, width: int, height: int) -> torch.Tensor | None:
        first, clip, plan = (
            self._request["sampling"].get("first_frame"),
            self._request["clip"],
            self._parts.plan,
        )
        if first is None or generated(self._request["sampling"]):
            return None
        given = read_picture(first["sha256"], self._guides, "first picture")
        picture, note = fitted(given, clip["width"], clip["height"], "first picture")
        if note is not None and note not in self.notes:
            self.notes.append(note)
        picture = enlarge_guide(picture, "render", height, width)
        latents = encode(self._parts.vae, picture[None].to(plan.torch_device))
        return latents[0].float()
