"""Prompts to the text embedding that the UNet and the control encoders attend to."""

import torch

from .parts import Parts


def encode_prompts(parts: Parts, prompts: list[str]) -> torch.Tensor:
    """CLIP's last hidden state, after its final layer norm, for each prompt.

    Returns [len(prompts), tokens, channels] on the plan's device; every prompt is padded or cut to
    the encoder's length (77 tokens in Stable Diffusion 1.5), see ``cut_note``.
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


def cut_note(parts: Parts, prompt: str) -> str | None:
    """A sentence where the model does not read the prompt to its end, otherwise None."""
    used, length = len(parts.tokenizer(prompt, verbose=False).input_ids), _length(parts)
    if used <= length:
        return None
    return (
        f"The prompt has {used - 2} tokens and the model reads the first {length - 2}; "
        "what comes after them has no effect."
    )


def _length(parts: Parts) -> int:
    return int(parts.text_encoder.config.max_position_embeddings)
