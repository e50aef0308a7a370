"""The sampling loop: from noise to the latents of a clip."""

import copy
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, SchedulerMixin, UNetMotionModel

from .errors import Cancelled
from .first_frame import Trajectory, each_by_itself, first_latents, stepper, with_first
from .image_prompt import text_and_image
from .motion import FrameNormMotionModule, set_motion_scale
from .residuals import ControlBranch, Residuals
from .text import per_frame
from .windows import Window, WindowedDenoiser, window_text


class Denoiser:
    """Predicts the noise in a clip, with control, classifier-free and temporal guidance.

    ``text`` is [halves, tokens, channels], or [halves, F, tokens, channels] where frames have texts
    of their own: negative and positive prompt, or the positive one alone, which is all that a
    guidance of 1 needs. ``batch`` halves go through the UNet at once.

    ``temporal`` weighs the video model against the image model, which is the same UNet without its
    motion modules: 1 is plain guidance, less loosens the frames from each other, more ties them
    closer together. Source: Gen-1 (Esser et al. 2023), section 3.4. Its equation takes the image
    model for the negative prompt alone; with a guidance of 1 that is the prompt, and a weight of 0
    then makes each frame by itself.

    ``image`` [halves, n, channels] are a reference picture's tokens, which an ``ImagePrompt`` that
    is applied to the UNet expects beside the text.

    ``share``, 0 to 1, is how much of the schedule is done; ``steps_of`` sets it before each step.
    From a share of ``guidance_end`` on the guidance is 1: the negative half is left out, and those
    steps take half the time. Source: guidance in a limited interval (Kynkäänniemi et al. 2024,
    arXiv 2404.07724), here one that begins with the first step.
    """

    share: float = 0.0

    def __init__(
        self,
        unet: UNetMotionModel,
        control: ControlBranch,
        text: torch.Tensor,
        guidance: float,
        batch: int,
        check: Callable[[], None],
        temporal: float = 1.0,
        image: torch.Tensor | None = None,
        guidance_end: float = 1.0,
    ) -> None:
        self._unet = unet
        self._control = control
        self._text = text
        self._guidance_end = guidance_end
        self._guidance = guidance
        self._batch = batch
        self._check = check
        self._temporal = temporal
        self._image = image

    def __call__(
        self, latents: torch.Tensor, t: torch.Tensor, window: Window | None = None
    ) -> torch.Tensor:
        """The guided output for ``latents`` float32 [1, C, F, h, w] at timestep ``t``, likewise.

        With ``window`` the latents are those frames of the clip, and so are control and texts.
        """
        predicted, residuals = self._halves(latents, t, window)
        start = first = predicted[:1]
        if self._temporal != 1:
            image = self.frames_alone(latents, t, residuals, window)
            start = image + self._temporal * (first - image)
        return self._guided(predicted, start)

    def picture(self, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The image model's guided output for a picture ``latents`` [1, C, 1, h, w], likewise.

        It gets the text and the control of the clip's frame 0.
        """
        halves = []
        for part in self._parts():
            self._check()
            residuals = self._control.at(t, part, self.share, None, latents, frame=0)
            self._check()
            text = window_text(self._text[part], (0,))
            image = None if self._image is None else self._image[part]
            with _without_motion(self._unet), each_by_itself(self._unet):
                halves.append(self._run(latents, t, text, residuals, image))
        predicted = torch.cat(halves)
        return self._guided(predicted, predicted[:1])

    def _guided(self, predicted: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        if len(predicted) == 1:
            return start
        return start + self._guidance * (predicted[1:] - predicted[:1])

    def halves(
        self, latents: torch.Tensor, t: torch.Tensor, window: Window | None = None
    ) -> torch.Tensor:
        """The model's output for each half, [halves, C, F, h, w], in the latents' number type.

        Both halves of guidance get the control, each with its own text, as in the reference.
        """
        return self._halves(latents, t, window)[0]

    def _halves(
        self, latents: torch.Tensor, t: torch.Tensor, window: Window | None
    ) -> tuple[torch.Tensor, Residuals | None]:
        """What ``halves`` says, and the first half's residuals where the image model needs them."""
        halves: list[torch.Tensor] = []
        first, frames = None, latents.shape[2]
        for part in self._parts():
            self._check()
            residuals = self._control.at(t, part, self.share, window, latents)
            self._check()
            if not halves and self._temporal != 1 and residuals is not None:
                first = tuple(residual[:frames] for residual in residuals)
            text = self._text[part] if window is None else window_text(self._text[part], window)
            image = None if self._image is None else self._image[part]
            halves.append(self._run(latents, t, text, residuals, image))
        return torch.cat(halves), first

    def _parts(self) -> list[slice]:
        """The halves that go through the models at once."""
        first, of = self._first, len(self._text)
        return [slice(k, min(k + self._batch, of)) for k in range(first, of, self._batch)]

    @property
    def _first(self) -> int:
        """Which text comes first: the negative prompt, or the positive one where it is alone."""
        return 0 if self.share < self._guidance_end else len(self._text) - 1

    def frames_alone(
        self,
        latents: torch.Tensor,
        t: torch.Tensor,
        residuals: Residuals | None = None,
        window: Window | None = None,
    ) -> torch.Tensor:
        """The image model's output for the first text, [1, C, F, h, w].

        It gets the video model's ``residuals``: the structure is Gen-1's s, in both terms.
        """
        self._check()
        only = slice(self._first, self._first + 1)
        text = self._text[only] if window is None else window_text(self._text[only], window)
        image = None if self._image is None else self._image[only]
        with _without_motion(self._unet):
            return self._run(latents, t, text, residuals, image)

    def _run(
        self,
        latents: torch.Tensor,
        t: torch.Tensor,
        text: torch.Tensor,
        residuals: Residuals | None,
        image: torch.Tensor | None,
    ) -> torch.Tensor:
        frames = latents.shape[2]
        predicted = self._unet(
            latents.to(text.dtype).expand(len(text), -1, -1, -1, -1),
            t,
            encoder_hidden_states=text_and_image(per_frame(text, frames), image, frames),
            down_block_additional_residuals=residuals[:-1] if residuals else None,
            mid_block_additional_residual=residuals[-1] if residuals else None,
        )
        return predicted.sample.to(latents.dtype)


@contextmanager
def _without_motion(unet: UNetMotionModel) -> Iterator[None]:
    """Inside the block the motion modules of ``unet`` add nothing to the frames."""
    held = {m: m.motion_scale for m in unet.modules() if isinstance(m, FrameNormMotionModule)}
    set_motion_scale(unet, 0)
    try:
        yield
    finally:
        for module, scale in held.items():
            module.motion_scale = scale


def steps_of(
    denoiser: Denoiser | WindowedDenoiser,
    scheduler: SchedulerMixin,
    noise: torch.Tensor,
    steps: int,
    generator: torch.Generator,
    first: Trajectory | None = None,
    clean: torch.Tensor | None = None,
    share: float = 1.0,
) -> Generator[torch.Tensor, None, torch.Tensor]:
    """Denoise step by step; the generator returns a clean clip, float32 [1, C, F, h, w].

    After each step it gives the clip as it looks by then. It begins with ``noise``, or, where there
    is a ``clean`` clip, with that one covered by noise, and makes the last ``share`` of the
    ``steps``. ``generator`` (on the CPU, so that a seed means the same everywhere) feeds schedules
    that add noise on the way. Latents stay in float32 whatever number type the model has. ``first``
    holds frame 0: it is the trajectory's at every step, and to the bit its last one in the end.
    """
    scheduler = copy.deepcopy(scheduler)
    # The steps stay on the CPU: reading them from a graphics card would wait for it each time.
    scheduler.set_timesteps(steps)
    step = stepper(scheduler, generator)
    of = len(scheduler.timesteps)
    begin = 0 if clean is None else of - steps_in(share, of)
    known = None if first is None else first(scheduler, begin)
    latents = first_latents(scheduler, noise, clean, begin)
    if known is not None:
        latents = with_first(latents, next(known))
    for done, t in enumerate(scheduler.timesteps[begin:], start=begin):
        denoiser.share = done / of
        predicted = denoiser(scheduler.scale_model_input(latents, t), t)
        stepped = step(predicted, t, latents)
        latents = stepped.prev_sample
        if known is not None:
            latents = with_first(latents, next(known))
        yield _finished(scheduler, stepped, latents)
    return latents


def timesteps_of(scheduler: SchedulerMixin, steps: int, share: float = 1.0) -> list[float]:
    """The timesteps of the last ``share`` of ``steps`` steps; some schedules make one step more."""
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps.tolist()
    return times[-steps_in(share, len(times)) :]


def steps_in(share: float, steps: int) -> int:
    """How many steps, at least one, the last ``share`` (0 to 1) of ``steps`` steps are."""
    return max(1, round(share * steps))


def _finished(scheduler: SchedulerMixin, stepped: Any, latents: torch.Tensor) -> torch.Tensor:
    """What the finished clip would be after a step; some schedules cannot tell, and show noise."""
    if isinstance(scheduler, DPMSolverMultistepScheduler):
        return scheduler.model_outputs[-1]
    for name in ("pred_original_sample", "denoised"):
        seen = stepped.get(name)
        if seen is not None:
            return seen
    return latents


def cancel_check(should_cancel: Callable[[], bool]) -> Callable[[], None]:
    """A function to call between the parts of a job, which raises Cancelled when it is time to."""

    def check() -> None:
        if should_cancel():
            raise Cancelled

    return check
