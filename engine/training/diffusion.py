"""What the diffusion stages share: noising, the loss, one prediction, and sampling for grids."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from diffusers.models.controlnets.controlnet_sparsectrl import SparseControlNetModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from ..image_prompt import text_and_image
from ..noise import noise_of, shared_side
from ..schedules import shifted
from ..vae import Vae


@dataclass(frozen=True)
class Frozen:
    """What the stages on clips train beside: the image model and all around it."""

    vae: Vae
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler
    shared_noise: int = 0

    def text(self, captions: Sequence[str]) -> Tensor:
        """The captions as the models attend to them, [b, l, d]."""
        return encode_text(self.text_encoder, self.tokenizer, captions)


@dataclass
class Control:
    """A condition encoder and what it is to hold the clip to.

    ``condition`` is [b, channels, f, h, w] (pixels in [0, 1], or latents), zero on frames without a
    guide; ``mask`` is [b, 1, f, h, w], one on frames with a guide, which ``keyed`` names.
    """

    encoder: SparseControlNetModel
    condition: Tensor
    mask: Tensor
    keyed: Sequence[int]


def tokens(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """Token ids [b, length], padded and cut as the sampling pipeline does."""
    return tokenizer(
        list(captions), padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids


def encode_text(
    encoder: CLIPTextModel, tokenizer: CLIPTokenizer, captions: Sequence[str]
) -> Tensor:
    """The captions' encodings [b, l, d]."""
    ids = tokens(tokenizer, captions).to(next(encoder.parameters()).device)
    return encoder(ids).last_hidden_state


def half_precision(device: torch.device) -> torch.autocast:
    """Products in bfloat16, sums and weights in float32."""
    return torch.autocast(device.type, torch.bfloat16)


def attend_in_products(*modules: nn.Module) -> None:
    """On a CPU, attention as two plain products: torch's fused one is slow backward in bfloat16.

    One training step of blockout-mini's image model takes 0.7 of the time (a CPU with bfloat16
    products, one thread).
    """
    for module in modules:
        if next(module.parameters()).device.type == "cpu":
            for layer in module.modules():
                if isinstance(layer, Attention):
                    layer.set_processor(AttnProcessor())


def side_under(card: int, control: Control | None, frames: int) -> int:
    """What all frames share of a clip's noise under ``control``, as sampling has it
    (see ``shared_side``).
    """
    return shared_side(card, control.keyed if control else (), frames)


def start_noise(shape: Sequence[int], device: torch.device, shared: int = 0) -> Tensor:
    """The noise that every grid and figure starts from, the same on every device."""
    return noise_of(torch.Generator().manual_seed(1), tuple(shape), device, shared)


def predict(
    unet: nn.Module,
    noisy: Tensor,
    time: Tensor,
    text: Tensor,
    control: Control | None,
    image: Tensor | None = None,
) -> Tensor:
    """The prediction for ``noisy`` [b, 4, f, h, w] at ``time`` [b] under ``text`` [b, l, d] and,
    for a model that has layers for it, image tokens [b, n, d].

    ``unet`` is an image model where f is 1, a motion model otherwise. The encoder never sees the
    noisy latents: SparseControlNetModel puts zeros in their place (SparseCtrl, section 3.2).
    """
    frames = noisy.shape[2]
    text_per_frame = text.repeat_interleave(frames, dim=0)
    residuals: dict = {}
    if control is not None:
        down, middle = control.encoder(
            noisy,
            time,
            encoder_hidden_states=text_per_frame,
            controlnet_cond=control.condition,
            conditioning_mask=control.mask,
            return_dict=False,
        )
        residuals = {
            "down_block_additional_residuals": tuple(down),
            "mid_block_additional_residual": middle,
        }
    attended = text_and_image(text_per_frame, image, frames)
    if frames == 1:
        return unet(noisy[:, :, 0], time, attended, return_dict=False, **residuals)[0][:, :, None]
    return unet(noisy, time, attended, return_dict=False, **residuals)[0]


def noisy_and_target(
    scheduler: DDIMScheduler,
    clean: Tensor,
    generator: torch.Generator,
    shift: float = 1.0,
    shared: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Latents [b, ...] -> (noisy latents, timesteps [b], what the model should predict).

    ``generator`` is on the latents' device. A ``shift`` above 1 brings noisy timesteps more often
    (see ``shifted``): of 3, half of them are above 0.75.
    ``shared`` as in ``noise_of``.
    """
    steps = scheduler.config.num_train_timesteps
    # One draw per equal part of the schedule: less variance than independent draws.
    count, device = len(clean), clean.device
    offsets = torch.rand(count, generator=generator, device=device)
    parts = (torch.arange(count, device=device) + offsets) / count
    time = (shifted(parts, shift) * steps).long().clamp(max=steps - 1)
    noise = noise_of(generator, clean.shape, device, shared)
    noisy = scheduler.add_noise(clean, noise, time)
    if scheduler.config.prediction_type == "v_prediction":
        return noisy, time, scheduler.get_velocity(clean, noise, time)
    return noisy, time, noise


def diffusion_loss(prediction: Tensor, target: Tensor, steadiness: float = 0.0) -> Tensor:
    """Mean squared error in float32 of [b, c, f, h, w]; ``steadiness`` weighs, beside it, that of
    the differences between neighbouring frames.

    What the model should predict does not change by that, only which of its errors count more:
    those that flicker.
    """
    error = prediction.float() - target.float()
    loss = error.square().mean()
    if steadiness:
        loss = loss + steadiness * error.diff(dim=2).square().mean()
    return loss


@torch.no_grad()
def sample(
    unet: nn.Module,
    scheduler: DDIMScheduler,
    text: Tensor,
    empty: Tensor,
    start: Tensor,
    control: Control | None,
    steps: int = 20,
    guidance: float = 3.0,
    images: tuple[Tensor | None, Tensor | None] = (None, None),
) -> Tensor:
    """Latents [b, 4, f, h, w] sampled from the noise ``start``; guidance as in the engine.

    ``text`` is [b, l, d], ``empty`` [1, l, d] the empty prompt's encoding; ``images`` are the image
    tokens [b, n, d] with the prompt and without it.
    """
    scheduler.set_timesteps(steps)
    latents = start
    for time in scheduler.timesteps:
        step = time.to(start.device).expand(len(latents))
        with half_precision(start.device):
            with_text = predict(unet, latents, step, text, control, images[0])
            without = predict(unet, latents, step, empty.expand_as(text), control, images[1])
        guided = without.float() + guidance * (with_text.float() - without.float())
        latents = scheduler.step(guided, time, latents).prev_sample
    return latents
