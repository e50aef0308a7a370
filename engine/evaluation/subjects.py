"""What is measured: the engine with a checkpoint, and the same without temporal layers."""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import SparseControlNetModel
from torch import Tensor, nn

from ..motion import use_reference_normalisation
from ..run import Engine
from .truth import KnownClip

BASELINE_FOLDER = "per_frame_{guide}"


class PerFrame(nn.Module):
    """A condition encoder without temporal layers: it holds the frames that have a guide.

    The frame-wise encoder that SparseCtrl is compared with (section 4.4): what it returns for
    frames without a guide means nothing, and is taken away.
    """

    def __init__(self, encoder: SparseControlNetModel) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def config(self) -> Any:
        """The encoder's."""
        return self.encoder.config

    def forward(self, *inputs: Any, conditioning_mask: Tensor, **more: Any) -> Any:
        """As the encoder's, with residuals of nothing on frames without a guide."""
        skips, middle = self.encoder(*inputs, conditioning_mask=conditioning_mask, **more)
        keyed = conditioning_mask[:, 0, :, 0, 0].flatten()

        def held(residual: Tensor) -> Tensor:
            return residual * keyed.repeat(len(residual) // len(keyed))[:, None, None, None]

        return [held(skip) for skip in skips], held(middle)


class Subject:
    """Makes clips through the engine's own front door."""

    def __init__(self, checkpoint: Path, baseline: str | None = None) -> None:
        self.engine = Engine("cpu" if not torch.cuda.is_available() else None)
        self.engine.load(checkpoint, lambda event: None)
        self.info = self.engine.parts.info
        if baseline is not None:
            folder = checkpoint / "evaluation" / BASELINE_FOLDER.format(guide=baseline)
            plan = self.engine.parts.plan
            encoder = SparseControlNetModel.from_pretrained(
                folder, torch_dtype=plan.torch_dtype, local_files_only=True
            )
            wrapped: Any = PerFrame(use_reference_normalisation(encoder))
            self.engine.parts.controls[baseline] = wrapped.to(plan.torch_device).eval()

    def make(
        self,
        clip: KnownClip,
        guide: str | None,
        keyframes: Sequence[int],
        steps: int,
        seed: int,
        on_step: Callable[[int, int], None],
    ) -> Tensor:
        """One clip [F, 3, h, w] in [0, 1] held to ``guide`` on ``keyframes``."""
        frames, _, height, width = clip.pictures.shape
        controls = []
        if guide is not None and keyframes:
            marked = [
                {
                    "clip_frame": frame,
                    "sha256": hashlib.sha256(clip.guides[guide][frame]).hexdigest(),
                    "strength": 1.0,
                }
                for frame in keyframes
            ]
            controls = [{"guide": guide, "strength": 1.0, "keyframes": marked}]
        request = {
            "schema": 1,
            "prompt": clip.caption,
            "negative_prompt": "",
            "checkpoint": {"name": self.info.name, "sha256": None},
            "loras": [],
            "clip": {
                "frames": frames,
                "fps": str(self.info.native["fps"]),
                "width": width,
                "height": height,
            },
            "controls": controls,
            "sampling": {"steps": steps, "guidance": self.info.defaults["guidance"]},
            "seeds": [seed],
        }

        def on_event(event: dict[str, Any]) -> None:
            if event["type"] == "phase" and event["phase"] == "sampling":
                on_step(event["done"], event["of"])

        with tempfile.TemporaryDirectory() as scratch:
            files = clip.guide_files(Path(scratch))
            take = self.engine.generate(request, files, seed, on_event, lambda: False)
        return torch.from_numpy(take.frames).permute(0, 3, 1, 2).float() / 255
