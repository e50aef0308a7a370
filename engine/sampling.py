"""The sampling loop: from noise to the latents of a clip."""

import copy
import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, SchedulerMixin, UNetMotionModel

from .errors import Cancelled
from .first_frame import Trajectory, with_first
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
    ) -> None:
        self._unet = unet
        self._control = control
        self._text = text
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
        predicted = self.halves(latents, t, window)
        first = predicted[:1]
        start = first
        if self._temporal != 1:
            image = self.frames_alone(latents, t, window)
            start = image + self._temporal * (first - image)
        if len(predicted) == 1:
            return start
        return start + self._guidance * (predicted[1:] - first)

    def halves(
        self, latents: torch.Tensor, t: torch.Tensor, window: Window | None = None
    ) -> torch.Tensor:
        """The model's output for each text, [halves, C, F, h, w], in the latents' number type.

        Both halves of guidance get the control, each with its own text, as in the reference.
        """
        halves = []
        for start in range(0, len(self._text), self._batch):
            part = slice(start, min(start + self._batch, len(self._text)))
            self._check()
            residuals = self._control.at(t, part, self.share, window, latents)
            self._check()
            text = self._text[part] if window is None else window_text(self._text[part], window)
            image = None if self._image is None else self._image[part]
            halves.append(self._run(latents, t, text, residuals, image))
        return torch.cat(halves)

    def frames_alone(
        self, latents: torch.Tensor, t: torch.Tensor, window: Window | None = None
    ) -> torch.Tensor:
        """The image model's output for the first text, [1, C, F, h, w].

        It gets the same control as the video model: the structure is Gen-1's s, in both terms.
        """
        frames = latents.shape[2]
        self._check()
        # Asked for as ``halves`` does, so that what is kept serves both.
        part = slice(0, min(len(self._text), self._batch))
        residuals = self._control.at(t, part, self.share, window, latents)
        if residuals is not None:
            residuals = tuple(residual[:frames] for residual in residuals)
        self._check()
        text = self._text[:1] if window is None else window_text(self._text[:1], window)
        image = None if self._image is None else self._image[:1]
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
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": generator} if takes_generator else {}
    times = scheduler.timesteps
    known = [] if first is None else first(scheduler)
    if clean is None:
        latents = noise * scheduler.init_noise_sigma
    else:
        begin = len(times) - steps_in(share, len(times))
        times, known = times[begin:], known[begin:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        latents = scheduler.add_noise(clean, noise, times[:1])
    of = len(scheduler.timesteps)
    for done, t in enumerate(times):
        denoiser.share = (of - len(times) + done) / of
        if known:
            latents = with_first(latents, known[done])
        predicted = denoiser(scheduler.scale_model_input(latents, t), t)
        stepped = scheduler.step(predicted, t, latents, **extra)
        latents = stepped.prev_sample
        yield _finished(scheduler, stepped, latents)
    return with_first(latents, known[-1]) if known else latents


def step_count(scheduler: SchedulerMixin, steps: int) -> int:
    """How many steps ``scheduler`` makes where ``steps`` are asked for; some make one more."""
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(steps)
    return len(scheduler.timesteps)


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


def noise_of(
    generator: torch.Generator, shape: tuple[int, ...], device: torch.device
) -> torch.Tensor:
    """Noise of ``shape`` from a generator on the CPU: the same on every device."""
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(device)


def cancel_check(should_cancel: Callable[[], bool]) -> Callable[[], None]:
    """A function to call between the parts of a job, which raises Cancelled when it is time to."""

    def check() -> None:
        if should_cancel():
            raise Cancelled

    return check
