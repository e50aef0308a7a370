"""The measurement itself: which runs there are, and their figures."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..training.pictures import write_grid
from ..vae import decode, encode
from .estimator import FOLDER, fingerprint, load_estimator
from .figures import clip_figures, mean_figures
from .report import shown
from .subjects import BASELINE_FOLDER, DRAFT, Subject
from .truth import KnownClip, save_index

GUIDE_WORDS = {"depth": "depth", "lineart": "line-art", "render": "render"}
# The usual quality level, and guided sampling, which is no level.
STANDARD, GUIDED = "standard", "guided"


@dataclass(frozen=True)
class Trial:
    """One row of the table: how the clips are to be made."""

    guide: str | None
    keyframes: tuple[int, ...]
    per_frame: bool = False
    label: str = ""
    level: str = STANDARD

    @property
    def name(self) -> str:
        """The row's title."""
        level = {STANDARD: "", DRAFT: ", at Draft", GUIDED: ", guided"}[self.level]
        if self.guide is None:
            return f"no guide (k = 0){level}"
        what = self.label or f"k = {len(self.keyframes)}"
        without = ", per-frame encoder" if self.per_frame else ""
        return f"{GUIDE_WORDS[self.guide]}, {what}{without}{level}"


def spread(count: int, frames: int) -> tuple[int, ...]:
    """``count`` keyframes from the first frame to the last, evenly."""
    if count == 1:
        return (0,)
    return tuple(round(k * (frames - 1) / (count - 1)) for k in range(count))


def trials(
    guides: list[str],
    per_frame: bool,
    few_steps: Collection[str],
    frames: int,
    quick: bool,
    quality: str = STANDARD,
    counts: Collection[int] = (),
) -> list[Trial]:
    """All rows, in order, or those with ``counts`` of keyframes and the one without a guide.
    ``quick`` is no guide, two and all keyframes of depth.

    ``per_frame`` says that there is a per-frame depth encoder to compare with. ``few_steps`` are
    the quality levels at which weights for few steps are used; where there are none, all ways to
    sample are one. Rows are of ``quality``; beside Standard, what Draft makes of it is a row each
    for two and for all keyframes of depth.
    """
    level = quality if quality in few_steps or (few_steps and quality == GUIDED) else STANDARD
    row = partial(Trial, level=level)
    if quick:
        pair, whole = spread(2, frames), spread(frames, frames)
        by_frame = [row("depth", pair, per_frame=True)] * per_frame
        held = [row("depth", pair), *by_frame, row("depth", whole)]
        return [row(None, ()), *(held if "depth" in guides else [])]
    others = [DRAFT] if level == STANDARD and DRAFT in few_steps else []
    every = [k for k in (1, 2, 4, 8, 16) if k < frames] + [frames]
    rows = [row(None, ())]
    for guide in [g for g in ("depth", "lineart") if g in guides]:
        for count in every:
            rows.append(row(guide, spread(count, frames)))
            if per_frame and guide == "depth" and count < frames:
                rows.append(row(guide, spread(count, frames), per_frame=True))
            if guide == "depth" and count in (2, frames):
                rows += [row(guide, spread(count, frames), level=other) for other in others]
    if "render" in guides:
        rows.append(row("render", (0,), label="animation (first frame)"))
        rows.append(row("render", (0, frames - 1), label="interpolation (first and last)"))
        rows.append(row("render", tuple(range(min(4, frames))), label="prediction (first 4)"))
        rows.append(row("render", spread(frames, frames)))
    return [r for r in rows if not counts or r.guide is None or len(r.keyframes) in counts]


def evaluate(
    checkpoint: Path,
    clips: list[KnownClip],
    quick: bool,
    quality: str,
    steps: int,
    seed: int,
    guides: Collection[str],
    counts: Collection[int],
    deflicker: bool | None,
    out: Path,
    progress: Callable[[str, int, int], None],
) -> tuple[list[dict[str, Any]], str]:
    """Rows {"name", "steps", "figures"}, the estimator's fingerprint; pictures go into ``out``.

    ``steps`` are those of guided sampling (`Subject.sampling`). The first two rows are the floor:
    true pictures, and the same through the autoencoder; then come one without guide and those of
    ``guides`` (see `trials` for ``counts``, `Subject` for ``deflicker``). ``progress(what, done,
    of)`` counts clips. Raises FileNotFoundError where the checkpoint brings no estimator,
    EngineError where it cannot make the clips.
    """
    folder = checkpoint / "evaluation" / FOLDER
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not there: {checkpoint.name} brings no depth estimator, without which "
            "structure cannot be measured. Train one with `animatic train estimator`."
        )
    estimator = load_estimator(folder)
    subject = Subject(checkpoint, deflicker=deflicker)
    per_frame = (checkpoint / "evaluation" / BASELINE_FOLDER).is_dir()
    frames = len(clips[0].pictures)
    few_steps = subject.info.few_steps.get("steps", {})
    asked = [guide for guide in subject.info.guides if guide in guides]
    planned = trials(asked, per_frame, few_steps, frames, quick, quality, counts)
    baseline = Subject(checkpoint, True, deflicker) if per_frame else subject
    grids: dict[str, list[Tensor]] = {clip.name + clip.source: [] for clip in clips}
    rows: list[dict[str, Any]] = []

    def measured(
        name: str, made: Iterator[Tensor], keyframes: tuple[int, ...], taken: int | None = None
    ) -> None:
        figures = []
        for index, (clip, pictures) in enumerate(zip(clips, made, strict=True), start=1):
            figures.append(clip_figures(estimator, pictures, clip, list(keyframes)))
            grids[clip.name + clip.source].append(shown(pictures))
            progress(name, index, len(clips))
        rows.append({"name": name, "steps": taken, "figures": mean_figures(figures)})

    measured("true pictures", (clip.pictures for clip in clips), ())
    measured("through the autoencoder", (_coded(subject, clip) for clip in clips), ())
    for trial in planned:
        one = baseline if trial.per_frame else subject
        made = (
            one.make(
                clip,
                trial.guide,
                trial.keyframes,
                trial.level,
                steps,
                seed,
                lambda done, of: None,
            )
            for clip in clips
        )
        sampling, _ = one.sampling(trial.level, steps)
        measured(trial.name, made, trial.keyframes, sampling["steps"])
    for clip in clips:
        kind = clip.source.split(" ")[0].lower()
        write_grid(grids[clip.name + clip.source], out / f"{clip.name}_{kind}.png")
    (out / "rows.txt").write_text("\n".join(row["name"] for row in rows) + "\n", encoding="utf-8")
    save_index(clips, out / "clips.json")
    return rows, fingerprint(folder)


@torch.no_grad()
def _coded(subject: Subject, clip: KnownClip) -> Tensor:
    vae = subject.engine.parts.vae
    pictures = clip.pictures.to(vae.device)
    return decode(vae, encode(vae, pictures)).float().cpu().clamp(0, 1)
