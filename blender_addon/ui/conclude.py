"""What becomes of a job that is over: strips, a contact sheet, and sentences for the panel."""

from __future__ import annotations

import re

import bpy

from ..errors import AnimaticError
from ..link.generate import Outcome
from ..scene.strip import place_takes
from ..shot.takes import TakeOnDisk
from . import guides_report, previews, take_index
from .job import Job, Status
from .redraw import in_a_tool
from .runs import Run
from .take_strips import apply_over, name_strips, turn_into

_MOST_REASONS = 2  # a panel is no place for one sentence for each of 48 frames
_OPTIONS = (
    (r"--range (-?\d+):(-?\d+)", r"Range \1 to \2 under Expert"),
    (r"--range", "Range under Expert"),
    (
        r"name frames with --keyframes every:\d+ or --keyframes (-?\d+),(-?\d+)",
        r"add guide frames, at \1 and \2 say",
    ),
    (r"--keyframes", "Guide Frames"),
    (r"use --guide lineart", "choose Lines (Freestyle) as the Guide"),
    (r"with --blender( PATH)?", "as Blender for Guides under Expert in the preferences"),
    (r"its executable to --blender", "its executable under Expert in the preferences"),
    (r"a Blender executable with --blender", "its executable under Expert in the preferences"),
    (r"Name another with --out", "Choose another Takes Folder in the preferences"),
    (r"with --engine-python, or in \w+", "in the preferences"),
    (
        r"use --enable-autoexec",
        "turn on Auto Run Python Scripts in Blender's preferences (Save & Load)",
    ),
)


def conclude(run: Run, job: Job, same_file: bool) -> None:
    """Show the guides or place the strips, where their scene is still open."""
    outcome, shown = job.outcome, job.status
    if outcome is None or outcome.shot is None:
        return
    if run.movie_of is not None:
        _turn_into_movie(run.movie_of, shown, same_file)
        return
    shown.notes += outcome.notes
    if "keyframes" in outcome.shot:  # a redone take brings no guides of its own
        home = _home(run) if same_file else None
        if home is not None:
            guides_report.remember(home, outcome.shot, outcome.out / "guides")
        shown.notes += _remarks(outcome.shot)
    if run.guides_only:
        count = len(outcome.shot["guides"])
        shown.message = f"{count} guide{'s' if count != 1 else ''} in {job.seconds:.0f} s."
        try:
            previews.load(previews.SHEET, outcome.out / "guides" / "contact_sheet.png")
        except RuntimeError as error:
            shown.notes.append(f"They cannot be shown: {error}")
            return
        previews.open_image(previews.SHEET)
        return
    takes = len(outcome.takes)
    shown.message = f"{takes} take{'s' if takes != 1 else ''} in {job.seconds:.0f} s."
    shown.folder = outcome.out
    scene = _home(run) if same_file else None
    if scene is None:
        shown.notes.append(
            "The scene it was made for is no longer open: no strip was added, the take is kept. "
            "In its own file a click on its eye, under Takes, adds the strip."
        )
        take_index.read_disk()  # after File > Revert it is this file's
        return
    _place(scene, outcome, shown)


def _place(scene: bpy.types.Scene, outcome: Outcome, shown: Status) -> None:
    assert outcome.shot is not None
    shot = outcome.shot["shot"]
    try:
        as_movies = scene.animatic.strip_kind == "movie"
        edit, strips = place_takes(scene, shot, outcome.frames(), as_movies)
    except AnimaticError as error:
        shown.notes.append(f"No strip was added: {error}")
        take_index.read_disk()
        return
    number, takes = outcome.out.name.rpartition("_")[2], len(outcome.takes)
    labels = [number if takes == 1 else f"{number}.{index}" for index in range(1, takes + 1)]
    name_strips(shot["name"], labels, strips)
    subject = "The strip is" if len(outcome.takes) == 1 else "The strips are"
    shown.notes.insert(0, f"{subject} in the scene {edit.name}, for the Video Sequencer.")
    take_index.read_disk()
    try:
        apply_over(scene)
    except AnimaticError as error:
        shown.notes.append(str(error))
    _undo_step("Animatic: Add Strip")


def _undo_step(message: str) -> None:
    """Without a step of its own the next undo would take the strip away with something else."""
    if not in_a_tool():  # where Blender may crash of it
        bpy.ops.ed.undo_push(message=message)


def _turn_into_movie(take: TakeOnDisk, shown: Status, same_file: bool) -> None:
    shown.message = "The video is written."
    shown.folder = take.folder
    if not same_file:
        return
    try:
        turn_into(take, "movie")
    except AnimaticError as error:
        shown.notes.append(f"The strip is as it was: {error}")
        return
    _undo_step("Animatic: As Movie")


def _remarks(result: dict) -> list[str]:
    """What the artist should know about the guides, from the result of the guides task."""
    reasons = [keyframe["reason"] for keyframe in result["keyframes"] if not keyframe["kept"]]
    if len(reasons) > _MOST_REASONS:
        reasons = [
            f"{len(reasons)} of {len(result['keyframes'])} guide frames were left out: the clip "
            f"has only {result['shot']['clip']['frames']} frames."
        ]
    note = result["shot"]["note"]
    sentences = [*([note] if note else []), *reasons, *result["warnings"]]
    return [in_panel_words(sentence) for sentence in sentences]


def in_panel_words(sentence: str) -> str:
    """Name the fields of the panel where a sentence names the command line's options."""
    for option, words in _OPTIONS:
        sentence = re.sub(option, words, sentence)
    return sentence


def _home(run: Run) -> bpy.types.Scene | None:
    for scene in bpy.data.scenes:
        if scene.session_uid == run.scene_uid:
            return scene
    return bpy.data.scenes.get(run.scene_name)
