"""Places takes as strips in an edit scene, in the open file or in a copy of it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import bpy

from ..shot.held_frames import per_scene_frame
from ..shot.in_between_files import video_name
from . import compat
from .errors import SceneError
from .film import read_film

_OWNER = "animatic_shot_scene"
# The format that we gave an edit scene: where it has another one now, the artist has set that.
_FORMAT = "animatic_format"
SHOT = "animatic_shot"
"""The custom property that names the shot of a take's strip."""
REQUEST = "animatic_request"
"""The custom property with what was asked for, as in the take's request.json."""
RENDER = "animatic_render"
"""The custom property of the strip of a shot's own render, which names the shot."""
# Channel 1 stays free for the shot's own render, over which a take may be laid.
_LOWEST = 2
_HIGHEST = 128  # Blender has no more channels


def write_strips(shot: dict, takes: Sequence[Sequence[Path]], out_blend: Path) -> dict:
    """Save the open file as ``out_blend`` with an edit scene that shows ``takes`` on ``shot``.

    ``shot`` and ``takes`` as for ``place_takes``. Returns ``{"out_blend", "scene", "strips":
    [{"name", "channel"}]}``.
    """
    scene = _shot_scene(shot["scene"])
    for take in takes:
        per_scene_frame(take, shot)  # refused before anything is written
    bpy.context.preferences.filepaths.save_version = 0  # no shot.blend1
    # Saved once before there are strips, so that their paths can be relative to the new place.
    _save(out_blend)
    edit, strips = place_takes(scene, shot, takes)
    _save(out_blend)
    placed = [{"name": strip.name, "channel": strip.channel} for strip in strips]
    return {"out_blend": str(out_blend), "scene": edit.name, "strips": placed}


def place_takes(
    scene: bpy.types.Scene, shot: dict, takes: Sequence[Sequence[Path]], as_movies: bool = False
) -> tuple[bpy.types.Scene, list[bpy.types.bpy_struct]]:
    """Add ``takes`` to the edit scene of ``scene``; return that scene and the new strips.

    ``shot`` is the shot object of the guides task, which says on which frames they belong; a take
    is its PNG files, one per clip frame (or per scene frame, where in-between frames were made),
    all in one folder. Each take is one strip, one element per scene frame, or its video at the
    scene's rate with ``as_movies``, where it has one. All but the first are muted. The edit scene
    is made once; later takes come on channels above the earlier ones, which are muted where the
    new ones cover them, so that the newest alone is seen, beneath what the artist has laid higher
    up. While all strips there are ours, the edit takes on the format of ``scene``; a take of
    another shape than the edit's keeps its own. ``scene`` itself gets no strip: that would replace
    its F12 render. Raises AnimaticError when frames or channels are missing; nothing is then
    changed.
    """
    files = [per_scene_frame(take, shot) for take in takes]
    there = edit_scene(scene)
    if there is not None:
        channels = _free_channels(there, shot, len(files))
        _keep_up(there, scene)
        return there, _add(there, scene, shot, files, channels, as_movies)
    edit = _new_edit_scene(scene, shot)
    try:
        channels = _free_channels(edit, shot, len(files))
        return edit, _add(edit, scene, shot, files, channels, as_movies)
    except Exception:
        bpy.data.scenes.remove(edit)  # nothing half made stays in the artist's file
        raise


def _add(
    edit: bpy.types.Scene,
    scene: bpy.types.Scene,
    shot: dict,
    files: list[list[Path]],
    channels: list[int],
    as_movies: bool,
) -> list[bpy.types.bpy_struct]:
    edit.frame_start = min(edit.frame_start, shot["start"])
    edit.frame_end = max(edit.frame_end, shot["end"])
    _mute_covered(edit, shot)
    strips: list[bpy.types.bpy_struct] = []
    first = 1 + len(_takes_of(edit, shot))
    for number, (paths, channel) in enumerate(zip(files, channels, strict=True), start=first):
        movie = scene_video(paths, shot) if as_movies else None
        name = f"{shot['name']} Take {number}"
        strip = take_strip(edit, name, paths, channel, shot, movie)
        _keep_shape(strip, edit, scene, shot)
        strip.mute = number > first
        strips.append(strip)
    compat.show_in_sequencer(edit)
    return strips


def take_strip(
    edit: bpy.types.Scene,
    name: str,
    files: list[Path],
    channel: int,
    shot: dict,
    movie: Path | None = None,
) -> bpy.types.bpy_struct:
    """Place one take; ``files`` as of ``per_scene_frame``, or its ``movie`` instead."""
    if movie is not None:
        strip = compat.new_movie_strip(edit, name, movie, channel, shot["start"])
        strip.filepath = relative_path(movie)
    else:
        strip = compat.new_image_strip(edit, name, files, channel, shot["start"])
        strip.directory = f"{relative_path(files[0].parent)}/"
    compat.read_as_srgb(strip)
    strip.blend_type = "ALPHA_OVER"
    strip[SHOT] = shot["name"]
    take = files[0].parent.parent
    places = (take / "request.json", take.parent / "request.json")
    request = next((place for place in places if place.is_file()), None)
    if request is not None:
        strip[REQUEST] = request.read_text(encoding="utf-8")
    return strip


def scene_video(files: Sequence[Path], shot: dict) -> Path | None:
    """The video at the scene's rate of the take whose pictures are ``files``, if it is there."""
    video = files[0].parent.parent / video_name(Fraction(shot["scene_fps"]))
    return video if video.is_file() else None


def _takes_of(edit: bpy.types.Scene, shot: dict) -> list[bpy.types.bpy_struct]:
    return [strip for strip in _all_strips(edit) if strip.get(SHOT) == shot["name"]]


def _all_strips(edit: bpy.types.Scene) -> list[bpy.types.bpy_struct]:
    """The strips of ``edit``, those in meta strips too."""
    return list(edit.sequence_editor.strips_all) if edit.sequence_editor is not None else []


def _mute_covered(edit: bpy.types.Scene, shot: dict) -> None:
    """Mute the earlier takes of a shot that show no frame beside the new one's."""
    for strip in _takes_of(edit, shot):
        first, after = compat.strip_range(strip)
        if shot["start"] <= first and after - 1 <= shot["end"]:
            strip.mute = True


def _shot_scene(name: str) -> bpy.types.Scene:
    scene = bpy.data.scenes.get(name)
    if scene is None:
        raise SceneError(
            f"The file has no scene '{name}' any more: was it changed while the video was made?"
        )
    return scene


def edit_scene(scene: bpy.types.Scene) -> bpy.types.Scene | None:
    """Return the scene in which the takes of ``scene`` are edited, if there is one."""
    return next((other for other in bpy.data.scenes if other.get(_OWNER) == scene), None)


def _new_edit_scene(scene: bpy.types.Scene, shot: dict) -> bpy.types.Scene:
    edit = new_strip_scene(f"{scene.name} Edit", scene, shot)
    edit[_OWNER] = scene  # a pointer: it follows the scene when that is renamed
    edit[_FORMAT] = _format(edit)
    return edit


def new_strip_scene(name: str, scene: bpy.types.Scene, shot: dict) -> bpy.types.Scene:
    """Make a scene for strips of takes: the film's size, the rate of ``scene``, no look."""
    edit = bpy.data.scenes.new(name)
    _set_format(edit, scene, shot["film"]["width"], shot["film"]["height"])
    edit.render.resolution_percentage = 100
    edit.frame_start, edit.frame_end = shot["start"], shot["end"]
    edit.frame_set(shot["start"])
    compat.finished_pictures(edit)
    return edit


def _set_format(edit: bpy.types.Scene, scene: bpy.types.Scene, width: int, height: int) -> None:
    ours, theirs = edit.render, scene.render
    ours.fps, ours.fps_base = theirs.fps, theirs.fps_base
    ours.resolution_x, ours.resolution_y = width, height
    ours.pixel_aspect_x, ours.pixel_aspect_y = theirs.pixel_aspect_x, theirs.pixel_aspect_y


def _format(edit: bpy.types.Scene) -> list[float]:
    """Width and height in pixels, a pixel's own, and the rate with its base."""
    names = ("resolution_x", "resolution_y", "pixel_aspect_x", "pixel_aspect_y", "fps", "fps_base")
    return [float(getattr(edit.render, name)) for name in names]


def _keep_up(edit: bpy.types.Scene, scene: bpy.types.Scene) -> None:
    """Give the edit the format that ``scene`` has now; earlier takes keep their shape in it.

    An edit with strips or animation of the artist's own was made for the format that it has, and
    one whose format the artist has set is left alone, too.
    """
    strips, was = _all_strips(edit), _format(edit)
    ours = all(SHOT in strip or RENDER in strip for strip in strips)
    if not ours or edit.animation_data is not None or list(edit.get(_FORMAT, was)) != was:
        return
    try:
        film = read_film(scene)
    except SceneError:  # an empty border, say: the take is there all the same
        return
    _set_format(edit, scene, film.width, film.height)
    edit[_FORMAT] = now = _format(edit)
    by = min(now[side] * now[side + 2] / (was[side] * was[side + 2]) for side in (0, 1))
    for strip in strips:
        if SHOT in strip:  # the render is of the scene's size by itself
            x, y = (by * was[side + 2] / now[side + 2] for side in (0, 1))
            strip.transform.scale_x *= x
            strip.transform.scale_y *= y
            strip.transform.offset_x *= x
            strip.transform.offset_y *= y


def _keep_shape(
    strip: bpy.types.bpy_struct, edit: bpy.types.Scene, scene: bpy.types.Scene, shot: dict
) -> None:
    """Narrow a strip that fills the frame to the shape of its film, where that is another one."""
    width, height, pixel_width, pixel_height, *_ = _format(edit)
    frame = width * pixel_width / (height * pixel_height)
    film = shot["film"]["width"] * scene.render.pixel_aspect_x
    film /= shot["film"]["height"] * scene.render.pixel_aspect_y
    strip.transform.scale_x *= min(1.0, film / frame)
    strip.transform.scale_y *= min(1.0, frame / film)


def strips_between(edit: bpy.types.Scene, start: int, end: int) -> list[bpy.types.bpy_struct]:
    """The strips of ``edit`` that lie between two of its frames, both included."""
    found = []
    for strip in edit.sequence_editor.strips if edit.sequence_editor is not None else ():
        first, after = compat.strip_range(strip)
        if first <= end and after > start:
            found.append(strip)
    return found


def _free_channels(edit: bpy.types.Scene, shot: dict, count: int) -> list[int]:
    """The lowest channels that are free on the frames of ``shot``, above all takes there.

    Raises SceneError at Blender's limit.
    """
    here = strips_between(edit, shot["start"], shot["end"])
    used = {strip.channel for strip in here}
    top = max((strip.channel for strip in here if _shows_take(strip)), default=0)
    above = range(max(_LOWEST, top + 1), _HIGHEST + 1)
    free = [channel for channel in above if channel not in used]
    if len(free) < count:
        raise SceneError(
            f"The scene {edit.name} has no free channel above the takes of {shot['name']}: delete "
            "strips there that you no longer need, in the Video Sequencer."
        )
    return free[:count]


def _shows_take(strip: bpy.types.bpy_struct) -> bool:
    """Whether it is a strip of ours, or a meta strip or an effect of one."""
    if SHOT in strip or RENDER in strip:
        return True
    return any(map(_shows_take, [*getattr(strip, "strips", ()), *compat.effect_inputs(strip)]))


def relative_path(path: Path) -> str:
    """Return ``path`` as Blender writes it: relative to the open file, where it has a place."""
    if not bpy.data.filepath:
        return str(path)  # Blender makes it relative when the file is first saved
    try:
        return bpy.path.relpath(str(path))
    except ValueError:  # another drive on Windows
        return str(path)


def _save(path: Path) -> None:
    try:
        bpy.ops.wm.save_as_mainfile(filepath=str(path), relative_remap=True, check_existing=False)
    except RuntimeError as error:
        raise SceneError(f"{path} could not be written: {error}") from error
