"""Clips longer than a model's own, by windows over their frames.

Each sampling step runs the model on overlapping windows of a length that it knows and blends what
it predicts for the frames that several windows share.
Sources: MultiDiffusion (Bar-Tal et al. 2023) along time; Kosinkadink/ComfyUI-AnimateDiff-Evolved,
context schedules and the ordered halving of their shifts; FreeNoise (Qiu et al. 2023), sections 3.2
and 3.3, for the starting noise and the weights by distance from a window's middle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import torch

from .conditions import Condition

SCHEDULES = ("static", "uniform", "looped")
# Clip frames in the order in which the model sees them.
Window: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Context:
    """How windows lie on a clip: ``length`` frames each (1 and more), neighbours sharing
    ``overlap`` frames (0 to length - 1), by a ``schedule`` of SCHEDULES.

    "static" windows stay where they are, "uniform" ones are shifted from step to step, so that no
    border stays in one place; "looped" ones are shifted likewise and run on from the clip's last
    frame into its first, so that the clip repeats without a jump. Raises ValueError for others.
    """

    length: int
    overlap: int
    schedule: str

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"{self.schedule!r} is none of {', '.join(SCHEDULES)}.")
        if not 0 <= self.overlap < self.length:
            raise ValueError(
                f"Windows of {self.length} frames cannot share {self.overlap} with the next; "
                "0 to one less than their length is possible."
            )

    @staticmethod
    def asked(sampling: Mapping[str, Any]) -> "Context | None":
        """The context that a request's ``sampling`` asks for, or None."""
        stored = sampling.get("context")
        if stored is None:
            return None
        return Context(stored["length"], stored["overlap"], stored["schedule"])


def windows_at(context: Context, frames: int, step: int) -> list[Window]:
    """The windows over a clip of ``frames`` frames at sampling step ``step`` (from 0).

    They cover every frame, and all have ``context.length`` frames, or ``frames`` where the clip is
    shorter. A clip that fits gets one window: of its frames in order, or, looped, turned round by
    another angle at each step.
    """
    length, stride = context.length, context.length - context.overlap
    if context.schedule == "looped":
        # Where one window holds the whole loop, turning it once round is all that shifts can do.
        offset = _shift(step, min(stride, frames) if frames > length else frames)
        starts = range(offset, offset + (frames if frames > length else 1), stride)
        size = min(length, frames)
        return [tuple((start + k) % frames for k in range(size)) for start in starts]
    if frames <= length:
        return [tuple(range(frames))]
    last = frames - length
    offset = _shift(step, stride) if context.schedule == "uniform" else 0
    # What would stick out at an end is moved in: every window is as long as the model likes it.
    begun = {min(max(start, 0), last) for start in range(offset - stride, last + stride, stride)}
    return [tuple(range(start, start + length)) for start in sorted(begun)]


def _shift(step: int, period: int) -> int:
    """A shift of 0 to period - 1 frames: each once in ``period`` steps, and far from the last one.

    The order is that of numbers whose binary digits are read backwards.
    """
    bits = (period - 1).bit_length()
    backwards = (int(f"{k:0{bits}b}"[::-1], 2) for k in range(2**bits))
    return [shift for shift in backwards if shift < period][step % period]


def blend_weights(windows: Sequence[Window], frames: int) -> list[torch.Tensor]:
    """How much of each window's prediction each of its frames takes, float32 [len(window)] each.

    A pyramid over the window, highest in its middle; over all windows a frame's weights sum to 1,
    and the weight is exactly 1 where a frame lies in one window only.
    """
    total = torch.zeros(frames, dtype=torch.float64)
    for window in windows:
        total[list(window)] += _pyramid(len(window))
    return [(_pyramid(len(window)) / total[list(window)]).float() for window in windows]


def _pyramid(length: int) -> torch.Tensor:
    place = torch.arange(length, dtype=torch.float64)
    return torch.minimum(place + 1, length - place)


class WindowPredictor(Protocol):
    """Predicts for ``window``, whose frames ``latents`` [1, C, len(window), h, w] are; None stands
    for the whole clip. ``share``, 0 to 1, is how much of the schedule is done.
    """

    share: float

    def __call__(
        self, latents: torch.Tensor, t: torch.Tensor, window: Window | None = None
    ) -> torch.Tensor: ...


class WindowedDenoiser:
    """Calls ``predictor`` on each window and blends the predictions.

    A clip whose frames fit into one window in order goes through whole: the same bits as without
    windows. Blending guided predictions is the same as guiding blended ones, since guidance is
    linear.
    """

    def __init__(self, predictor: WindowPredictor, context: Context, frames: int) -> None:
        self._predictor = predictor
        self._context = context
        self._frames = frames
        self._step = -1
        self._moment: float | None = None

    @property
    def share(self) -> float:
        """How much of the schedule is done, 0 to 1."""
        return self._predictor.share

    @share.setter
    def share(self, share: float) -> None:
        self._predictor.share = share

    def __call__(self, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The prediction for a whole clip ``latents`` [1, C, F, h, w] at timestep ``t``, likewise.

        A new ``t`` is a new step: it shifts the windows.
        """
        if t.item() != self._moment:
            self._step, self._moment = self._step + 1, t.item()
        windows = windows_at(self._context, self._frames, self._step)
        if windows == [tuple(range(self._frames))]:
            return self._predictor(latents, t)
        blended = torch.zeros_like(latents)
        for window, weights in zip(windows, blend_weights(windows, self._frames), strict=True):
            chosen = torch.tensor(window, device=latents.device)
            predicted = self._predictor(latents[:, :, chosen], t, window)
            blended[:, :, chosen] += predicted * weights.to(latents)[:, None, None]
        return blended


def window_condition(condition: Condition, window: Window) -> Condition:
    """A whole clip's condition as a window's own: its frames counted from the window's start.

    A window without a keyframe gets zeros. Its ``key`` tells only what the window shows, so that
    what is computed for one window is found again for another that shows the same (all those
    without a keyframe, for instance).
    """
    chosen = torch.tensor(window, device=condition.values.device)
    cut = replace(
        condition,
        values=condition.values[:, :, chosen],
        mask=condition.mask[:, :, chosen],
        strengths=condition.strengths[list(window)],
    )
    shown = tuple((place, window[place]) for place in cut.keyed)
    return replace(cut, key=(*condition.key, len(window), shown))


def window_text(text: torch.Tensor, window: Window) -> torch.Tensor:
    """A window's part of a text [halves, F, tokens, channels]; one that all frames share stays."""
    return text[:, list(window)] if text.ndim == 4 else text


def free_noise(noise: torch.Tensor, context: Context, generator: torch.Generator) -> torch.Tensor:
    """FreeNoise: the first window's noise [1, C, F, h, w], repeated, in a new order each time.

    Frame by frame the noise is still normal; but frames one window length apart now have some in
    common, which keeps distant parts of a clip alike. The noise of the first ``context.length``
    frames stays; after it each group of one stride is a shuffled copy of the group one window
    before. ``generator`` (on the CPU) shuffles.
    Source: Qiu et al. 2023, section 3.2; AILab-CVC/FreeNoise, ``scripts/evaluation``.
    """
    length, stride = context.length, context.length - context.overlap
    frames = noise.shape[2]
    order = list(range(min(length, frames)))
    for start in range(length, frames, stride):
        group = order[start - length : start - length + stride]
        shuffled = torch.randperm(len(group), generator=generator).tolist()
        order += [group[k] for k in shuffled]
    return noise[:, :, order[:frames]]
