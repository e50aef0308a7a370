"""Prompts to the text embedding that the UNet and the control encoders attend to."""

from collections.abc import Mapping
from typing import Any

import torch

from .parts import Parts


def encode_prompts(parts: Parts, prompts: list[str]) -> torch.Tensor:
    """CLIP's last hidden state, after its final layer norm, for each prompt.

    Returns [len(prompts), tokens, channels] on the plan's device; every prompt is padded or cut to
    the encoder's length (77 tokens in Stable Diffusion 1.5), see ``cut_notes``.
    Source: huggingface/diffusers, pipelines/animatediff, ``encode_prompt``.
    """
    tokens = parts.tokenizer(
        prompts,
        padding="max_length",
        max_length=_length(parts),
        truncation=True,
        return_tensors="pt",
    )
    ids = tokens.input_ids.to(parts.plan.torch_device)
    return parts.text_encoder(ids).last_hidden_state


def encode_request(parts: Parts, request: Mapping[str, Any]) -> torch.Tensor:
    """The text of a request: its negative prompt, unless guidance is 1, and then its prompt.

    [halves, tokens, channels], or [halves, frames, tokens, channels] where prompts are set at clip
    frames: these then blend from one to the next, while the negative prompt stays.
    """
    # A guidance of 1 leaves the positive prompt alone: the other half would have no weight.
    guided = request["sampling"]["guidance"] != 1
    text = encode_prompts(parts, [request["negative_prompt"]] * guided + [request["prompt"]])
    later = request.get("prompts", [])
    if not later:
        return text
    # One by one: a prompt's bits depend on what is encoded beside it.
    own = {request["prompt"]: text[-1]}
    for prompt in {entry["prompt"] for entry in later} - own.keys():
        own[prompt] = encode_prompts(parts, [prompt])[0]
    keyed = {0: text[-1]} | {entry["clip_frame"]: own[entry["prompt"]] for entry in later}
    frames = request["clip"]["frames"]
    still = [half.expand(frames, -1, -1) for half in text[:-1]]
    return torch.stack([*still, blend_prompts(keyed, frames)])


def blend_prompts(keyed: Mapping[int, torch.Tensor], frames: int) -> torch.Tensor:
    """Text for each frame of a clip, [frames, tokens, channels].

    ``keyed`` holds the text [tokens, channels] of some clip frames, frame 0 among them: there it
    holds exactly. Between two of them it changes in a straight line, after the last it stays.
    """
    blended = []
    for frame in range(frames):
        before = max(key for key in keyed if key <= frame)
        after = min((key for key in keyed if key > frame), default=before)
        weight = (frame - before) / (after - before) if after > before else 0.0
        blended.append((1 - weight) * keyed[before] + weight * keyed[after])
    return torch.stack(blended)


def per_frame(text: torch.Tensor, frames: int) -> torch.Tensor:
    """``text`` as models of ``frames`` frames take it, [halves*frames, tokens, channels].

    It is [halves, tokens, channels], the same for all frames, or [halves, frames, tokens,
    channels].
    """
    return text.repeat_interleave(frames, dim=0) if text.ndim == 3 else text.flatten(0, 1)


def cut_notes(parts: Parts, request: Mapping[str, Any]) -> list[str]:
    """A sentence for each prompt of ``request`` that the model does not read to its end."""
    named = [("The prompt", request["prompt"])] + [
        (f"The prompt at clip frame {entry['clip_frame']}", entry["prompt"])
        for entry in request.get("prompts", [])
    ]
    length = _length(parts)
    used = [(name, len(parts.tokenizer(text, verbose=False).input_ids)) for name, text in named]
    return [
        f"{name} has {count - 2} tokens and the model reads the first {length - 2}; "
        "what comes after them has no effect."
        for name, count in used
        if count > length
    ]


def _length(parts: Parts) -> int:
    return int(parts.text_encoder.config.max_position_embeddings)
