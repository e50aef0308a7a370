"""What is measured: the engine with a checkpoint, and the same without temporal layers."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import SparseControlNetModel
from torch import Tensor, nn

from ..errors import EngineError
from ..motion import use_reference_normalisation
from ..run import Engine
from ..training.architecture import silence_motion
from .eight_bits import read_weights
from .truth import KnownClip

BASELINE_FOLDER = "per_frame_depth"
# The quick quality level.
DRAFT = "draft"


def _deflickered(motions: Mapping[tuple[int, int], Path]) -> dict[str, Any]:
    """What a request says of motion files."""
    named = [
        {"clip_frame": k, "to": other, "sha256": path.stem} for (k, other), path in motions.items()
    ]
    return {"deflicker": named} if named else {}


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


def load_per_frame(folder: Path) -> SparseControlNetModel:
    """An encoder from a folder that leaves its motion modules out: they are silent."""
    encoder = SparseControlNetModel.from_config(SparseControlNetModel.load_config(folder))
    silence_motion(encoder)
    unknown = encoder.load_state_dict(read_weights(folder), strict=False).unexpected_keys
    if unknown:
        raise EngineError(f"{folder} is not a per-frame encoder: it holds {unknown[0]}.")
    return use_reference_normalisation(encoder)


class Subject:
    """Makes clips through the engine's own front door.

    ``deflicker`` has the frames steadied along the true motion; None as the checkpoint's card says,
    but not at Draft, as the product does.
    """

    def __init__(
        self, checkpoint: Path, per_frame: bool = False, deflicker: bool | None = None
    ) -> None:
        self.engine = Engine()
        self.engine.load(checkpoint, lambda event: None)
        self.info = self.engine.parts.info
        self.deflicker = deflicker
        if per_frame:
            plan = self.engine.parts.plan
            wrapped: Any = PerFrame(load_per_frame(checkpoint / "evaluation" / BASELINE_FOLDER))
            wrapped.to(plan.torch_device, plan.torch_dtype).eval()
            self.engine.parts.controls["depth"] = wrapped

    def sampling(self, level: str, steps: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """How to sample and with which LoRAs, as a request says it.

        With the checkpoint's weights for few steps where its card has them for the quality
        ``level``, else in ``steps`` of its own schedule, guided.
        """
        few = self.info.few_steps
        if not few or level not in few["steps"]:
            return self.info.defaults | {"steps": steps}, []
        lora = {"name": few["lora"], "sha256": None, "scale": 1.0}
        return {"steps": few["steps"][level], "guidance": 1.0, "schedule": "lcm"}, [lora]

    def make(
        self,
        clip: KnownClip,
        guide: str | None,
        keyframes: Sequence[int],
        level: str,
        steps: int,
        seed: int,
        on_step: Callable[[int, int], None],
    ) -> Tensor:
        """One clip [F, 3, h, w] in [0, 1] held to ``guide`` on ``keyframes``; see `sampling`."""
        with tempfile.TemporaryDirectory() as scratch:
            files = {} if guide is None else clip.guide_files(guide, keyframes, Path(scratch))
            request = self._request(clip, guide, files, level, steps, seed)
            motions = clip.motion_files(Path(scratch)) if self._steadied(level) else {}
            request |= _deflickered(motions)

            def on_event(event: dict[str, Any]) -> None:
                if event["type"] == "phase" and event["phase"] == "sampling":
                    on_step(event["done"], event["of"])

            guides = {path.stem: path for path in (*files.values(), *motions.values())}
            take = self.engine.generate(request, guides, seed, on_event, lambda: False)
        return torch.from_numpy(take.frames).permute(0, 3, 1, 2).float() / 255

    def _steadied(self, level: str) -> bool:
        usual = bool(self.info.defaults["deflicker"]) and level != DRAFT
        return usual if self.deflicker is None else self.deflicker

    def _request(
        self,
        clip: KnownClip,
        guide: str | None,
        files: Mapping[int, Path],
        level: str,
        steps: int,
        seed: int,
    ) -> dict[str, Any]:
        frames, _, height, width = clip.pictures.shape
        marked = [
            {"clip_frame": frame, "sha256": path.stem, "strength": 1.0}
            for frame, path in files.items()
        ]
        controls = [{"guide": guide, "strength": 1.0, "keyframes": marked}] if marked else []
        sampling, loras = self.sampling(level, steps)
        return {
            "schema": 1,
            "prompt": clip.caption,
            "negative_prompt": "",
            "checkpoint": {"name": self.info.name, "sha256": None},
            "loras": loras,
            "clip": {
                "frames": frames,
                "fps": str(self.info.native["fps"]),
                "width": width,
                "height": height,
            },
            "controls": controls,
            "sampling": sampling,
            "seeds": [seed],
        }
