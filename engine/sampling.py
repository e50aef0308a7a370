"""The sampling loop: from noise to the latents of a clip."""

import copy
import inspect
from collections.abc import Callable

import torch
from diffusers import SchedulerMixin, UNetMotionModel

from .errors import Cancelled
from .residuals import ControlBranch

# Called after each step with the steps done, their total, and the clip as it looks by then.
OnStep = Callable[[int, int, torch.Tensor], None]


class Denoiser:
    """Predicts the noise in a clip, with control and classifier-free guidance.

    ``text`` is [halves, tokens, channels]: negative and positive prompt, or the positive one alone,
    which is all that a guidance of 1 needs. ``batch`` halves go through the UNet at once.
    """

    def __init__(
        self,
        unet: UNetMotionModel,
        control: ControlBranch,
        text: torch.Tensor,
        guidance: float,
        batch: int,
        check: Callable[[], None],
    ) -> None:
        self._unet = unet
        self._control = control
        self._text = text
        self._guidance = guidance
        self._batch = batch
        self._check = check

    def __call__(self, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The guided output for ``latents`` float32 [1, C, F, h, w] at timestep ``t``, likewise."""
        predicted = self.halves(latents, t)
        if len(predicted) == 1:
            return predicted
        negative, positive = predicted.chunk(2)
        return negative + self._guidance * (positive - negative)

    def halves(self, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The model's output for each text, [halves, C, F, h, w], in the latents' number type.

        Both halves of guidance get the control, each with its own text, as in the reference.
        """
        halves = []
        for start in range(0, len(self._text), self._batch):
            part = slice(start, min(start + self._batch, len(self._text)))
            text = self._text[part]
            self._check()
            residuals = self._control.at(t, part)
            self._check()
            halves.append(
                self._unet(
                    latents.to(text.dtype).expand(len(text), -1, -1, -1, -1),
                    t,
                    encoder_hidden_states=text.repeat_interleave(latents.shape[2], dim=0),
                    down_block_additional_residuals=residuals[:-1] if residuals else None,
                    mid_block_additional_residual=residuals[-1] if residuals else None,
                ).sample.to(latents.dtype)
            )
        return torch.cat(halves)


def sample(
    denoiser: Denoiser,
    scheduler: SchedulerMixin,
    noise: torch.Tensor,
    steps: int,
    generator: torch.Generator,
    on_step: OnStep,
) -> torch.Tensor:
    """Run the noise schedule from ``noise`` to a clean clip, both float32 [1, C, F, h, w].

    ``generator`` (on the CPU, so that a seed means the same everywhere) feeds schedules that add
    noise on the way. Latents stay in float32 whatever number type the model has.
    """
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(steps, device=noise.device)
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": generator} if takes_generator else {}
    latents = noise * scheduler.init_noise_sigma
    of = len(scheduler.timesteps)
    for done, t in enumerate(scheduler.timesteps, start=1):
        predicted = denoiser(scheduler.scale_model_input(latents, t), t)
        stepped = scheduler.step(predicted, t, latents, **extra)
        latents = stepped.prev_sample
        # Some schedules can tell what the finished clip would be; the others show their noise.
        seen = stepped.get("pred_original_sample")
        on_step(done, of, latents if seen is None else seen)
    return latents


def starting_noise(
    seed: int, shape: tuple[int, ...], device: torch.device
) -> tuple[torch.Tensor, torch.Generator]:
    """Noise [1, C, F, h, w] for a seed, the same on every device, and the generator behind it."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(device), generator


def cancel_check(should_cancel: Callable[[], bool]) -> Callable[[], None]:
    """A function to call between the parts of a job, which raises Cancelled when it is time to."""

    def check() -> None:
        if should_cancel():
            raise Cancelled

    return check
