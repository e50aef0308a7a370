"""Exact motion: where each point that a frame shows lies in the clip frames beside it.

Blender's own vector pass reaches to the frame before and after only, and knows nothing of a lens
that we set from Python. So the surfaces of all three times are read as a render sees them, and the
mesh of the frame is rendered with the positions that its points have at the two other times: a ray
gives all of it to the precision of single numbers, over any distance in time, for rigid and
deforming meshes, instances and particles, camera moves and zooms alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import bpy
import numpy as np

from ..shot.exr import read_exr
from ..shot.in_between import Seen, encode_motion, seen_in
from ..shot.motion_files import SIDES, Wanted
from ..shot.png import write_png
from ..shot.timing import ClipTiming
from . import compat
from .errors import SceneError
from .stage import OnStep, Stage, find_channel
from .surfaces import Moment, read_surfaces
from .visibility import hide_what_does_not_count, keep_one_view_layer

MOST_TRIANGLES = 10_000_000
"""In the picture at once, with all instances: each takes some 0.4 kB."""
QUICK_TRIANGLES = 1_500_000
"""As far as motion takes little beside the guides."""
_NOWHERE = (0.0, 0.0, 1e6)
"""A place behind the camera: of a point that is not there at another time."""


@dataclass(frozen=True)
class Look:
    """What the camera sees at a moment: planar Z [H, W], inf where nothing is; where each point of
    it lies at others, [H, W, 3] in their cameras' spaces; and which surfaces there are.
    """

    moment: Moment
    z: np.ndarray
    others: tuple[tuple[Moment, np.ndarray], ...]
    seen: Seen


@dataclass
class MotionRenderer:
    """Reads the stage's scene at any time, and renders it in a scene of its own."""

    stage: Stage
    scratch: Path
    most: int = MOST_TRIANGLES
    scene: bpy.types.Scene = field(init=False)
    material: bpy.types.Material = field(init=False)
    remade: set[str] = field(default_factory=set)
    """Names of the objects whose mesh was found to be another one at another time."""

    def __post_init__(self) -> None:
        stage = self.stage
        layer = keep_one_view_layer(stage.scene)
        hide_what_does_not_count(stage.scene, layer)
        layer.use_freestyle = stage.scene.render.use_freestyle = False
        stage.scene.render.use_compositing = False
        layer.use_solid = True
        stage.resize(1)
        self.scene = bpy.data.scenes.new("Animatic Motion")
        self.material = _material()
        _prepare(self.scene, stage.scene.render)

    def read(self, time: Fraction) -> Moment:
        """Return all surfaces at ``time``."""
        stage = self.stage
        stage.go_to(time)
        pieces = read_surfaces(stage.scene)
        if pieces is None:
            raise SceneError("Blender could not read the motion of the scene's surfaces.")
        graph = stage.layer.depsgraph
        camera, render = stage.scene.camera, stage.scene.render
        # Of the camera itself: its lens was set after the scene was evaluated.
        projection = camera.calc_matrix_camera(
            graph,
            x=stage.width,
            y=stage.height,
            scale_x=render.pixel_aspect_x,
            scale_y=render.pixel_aspect_y,
        )
        view = np.linalg.inv(
            np.array(camera.evaluated_get(graph).matrix_world.normalized(), np.float64)
        )
        lens = stage.camera.copy()
        lens.animation_data_clear()
        lens.dof.use_dof = False  # its rays start anywhere on the lens
        return Moment(stage.filmed_by, lens, view, np.array(projection, np.float64), pieces)

    def look(self, moment: Moment, others: Sequence[Moment] = ()) -> Look:
        """Return what the camera sees at ``moment``, and where all of it is at two ``others`` at
        most. Raises SceneError where that is more than ``most`` triangles.
        """
        z, places = self._render(moment, others)
        return Look(moment, z, tuple(zip(others, places, strict=True)), seen_in(z))

    def motions(self, look: Look, seen: Sequence[Seen]) -> list[np.ndarray]:
        """Return the motion from a look to each of its other times, at which ``seen`` is seen.

        As shot/in_between.py says; one all 0 where another camera films.
        """
        motions = []
        for (other, place), there in zip(look.others, seen, strict=True):
            if other.camera != look.moment.camera:
                motions.append(np.zeros((*look.z.shape, 4), np.uint16))
                continue
            u, v, z = self._projected(other, place)
            sky = ~np.isfinite(look.z)
            u[sky], v[sky] = self._sky(look.moment, other, sky)
            z[sky] = np.inf
            motions.append(encode_motion(u, v, z, there))
        return motions

    def _render(
        self, moment: Moment, others: Sequence[Moment]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return planar Z and places as a Look has them."""
        item = self._build(moment, others)
        camera = bpy.data.objects.new("Animatic Motion", moment.lens)
        objects = self.scene.collection.objects
        objects.link(camera)
        objects.link(item)
        self.scene.camera = camera
        path = self.scratch / "animatic_motion.exr"
        self.scene.render.filepath = str(path)
        bpy.ops.render.render(write_still=True, scene=self.scene.name)
        passes = read_exr(path)
        path.unlink()
        mesh = item.data
        bpy.data.objects.remove(item)
        bpy.data.objects.remove(camera)
        bpy.data.meshes.remove(mesh)
        z = find_channel(passes, "Depth.Z").copy()
        z[(z > 1e9) | (z <= 0)] = np.inf
        places = [
            np.stack([find_channel(passes, f"{side}.{axis}") for axis in "RGB"], axis=-1)
            for side in SIDES[: len(others)]
        ]
        return z, places

    def _build(self, moment: Moment, others: Sequence[Moment]) -> bpy.types.Object:
        """One mesh of all pieces in the camera's space, with their places at the other times."""
        points, triangles, count = [], [], 0
        places: list[list[np.ndarray]] = [[] for _ in others]
        shown = {key: piece for key, piece in moment.pieces.items() if moment.in_view(key)}
        if sum(len(piece.triangles) for piece in shown.values()) > self.most:
            raise SceneError(
                f"The camera sees more than {self.most / 1e6:g} million triangles, with all "
                "instances: their motion would take too long to read, and too much memory. Hide "
                "what is scattered."
            )
        for key, piece in shown.items():
            points.append(moment.seen_from_camera(key))
            triangles.append(piece.triangles + count)
            count += len(piece.points)
            for other, found in zip(others, places, strict=True):
                found.append(self._places_at(moment, other, key))
        mesh = bpy.data.meshes.new("Animatic Motion")
        item = bpy.data.objects.new("Animatic Motion", mesh)
        if not points:
            return item
        corners = np.concatenate(triangles).astype(np.int32)
        mesh.vertices.add(count)
        mesh.loops.add(corners.size)
        mesh.polygons.add(len(corners))
        mesh.vertices.foreach_set("co", np.concatenate(points).astype(np.float32).ravel())
        mesh.loops.foreach_set("vertex_index", corners.ravel())
        mesh.polygons.foreach_set("loop_start", np.arange(0, corners.size, 3, dtype=np.int32))
        for side, found in zip(SIDES, places, strict=False):
            attribute = mesh.attributes.new(side, "FLOAT_VECTOR", "POINT")
            attribute.data.foreach_set("vector", np.concatenate(found).astype(np.float32).ravel())
        mesh.update(calc_edges=True)
        mesh.materials.append(self.material)
        return item

    def _places_at(self, moment: Moment, other: Moment, key: tuple) -> np.ndarray:
        """Where a piece's points lie at another time, in that time's camera space, [V, 3]."""
        piece, same = moment.pieces[key], other.pieces.get(key)
        if same is None:
            return np.full((len(piece.points), 3), _NOWHERE)
        alike = len(same.points) == len(piece.points) and len(same.triangles) == len(
            piece.triangles
        )
        if alike and moment.rows.get(key[0]) == other.rows.get(key[0]):
            return other.seen_from_camera(key)
        # Liquids, Booleans, rows of which one went: which became which, nobody knows.
        self.remade.add(piece.name)
        return np.full((len(piece.points), 3), _NOWHERE)

    def _projected(
        self, moment: Moment, place: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return u, v (pixels) and planar Z of places [..., 3] in a moment's camera space."""
        height, width = self.stage.height, self.stage.width
        flat = place.reshape(-1, 3).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            clip = flat @ moment.projection[:, :3].T + moment.projection[:, 3]
            u = (clip[:, 0] / clip[:, 3] + 1) / 2 * width - 0.5
            v = (1 - clip[:, 1] / clip[:, 3]) / 2 * height - 0.5
        shape = place.shape[:-1]
        return u.reshape(shape), v.reshape(shape), -flat[:, 2].reshape(shape)

    def _sky(self, moment: Moment, other: Moment, sky: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the directions of ``sky`` lie at another time: they turn, but are never nearer."""
        height, width = sky.shape
        rows, columns = np.nonzero(sky)
        if moment.lens.type == "ORTHO":  # every pixel looks the same way
            return columns.astype(np.float64), rows.astype(np.float64)
        ends = np.stack(
            [
                (columns + 0.5) / width * 2 - 1,
                1 - (rows + 0.5) / height * 2,
                np.ones(len(rows)),
                np.ones(len(rows)),
            ],
            axis=-1,
        )
        own = ends @ np.linalg.inv(moment.projection).T
        turn = other.view[:3, :3] @ np.linalg.inv(moment.view[:3, :3])
        directions = own[:, :3] / own[:, 3:] @ turn.T
        directions[directions[:, 2] >= 0] = _NOWHERE  # behind the other camera
        u, v, z = self._projected(other, directions)
        u[z <= 0] = np.nan
        return u, v


def _material() -> bpy.types.Material:
    """A surface that writes the positions of its points at the other times."""
    material = bpy.data.materials.new("Animatic Motion")
    if compat.material_tree(material) is None:
        material.use_nodes = True
    tree = compat.material_tree(material)
    assert tree is not None
    tree.nodes.clear()
    # It lights nothing: as lamps, all triangles would be sorted for it at each render.
    material.cycles.emission_sampling = "NONE"
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    surface = tree.nodes.new("ShaderNodeEmission")
    tree.links.new(surface.outputs[0], output.inputs["Surface"])
    for side in SIDES:
        attribute, written = (
            tree.nodes.new("ShaderNodeAttribute"),
            tree.nodes.new("ShaderNodeOutputAOV"),
        )
        attribute.attribute_name = written.aov_name = side
        tree.links.new(attribute.outputs["Vector"], written.inputs["Color"])
    return material


def _prepare(scene: bpy.types.Scene, like: bpy.types.RenderSettings) -> None:
    render, layer = scene.render, scene.view_layers[0]
    for name in ("resolution_x", "resolution_y", "pixel_aspect_x", "pixel_aspect_y"):
        setattr(render, name, getattr(like, name))
    render.resolution_percentage = 100
    render.use_compositing = render.use_sequencer = render.use_motion_blur = False
    render.use_file_extension = render.use_overwrite = True
    render.use_freestyle = layer.use_freestyle = False
    compat.allow_writing(render)
    compat.set_still_format(render.image_settings, "OPEN_EXR_MULTILAYER", "RGBA", "32")
    render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.device = "CPU"
    cycles.samples, cycles.max_bounces = 1, 0
    cycles.use_denoising = cycles.use_adaptive_sampling = False
    cycles.pixel_filter_type, cycles.filter_width = "BOX", 0.01  # the ray through the centre
    layer.pass_alpha_threshold = 0.0
    layer.use_pass_z = layer.use_pass_combined = True
    for side in SIDES:
        made = layer.aovs.add()
        made.name, made.type = side, "COLOR"


def render_motion(
    stage: Stage,
    timing: ClipTiming,
    wanted: Wanted,
    scratch: Path,
    on_step: OnStep,
    most: int = MOST_TRIANGLES,
) -> list[str]:
    """Write the motion files that are ``wanted``.

    Returns the names of objects without motion, because their mesh is made anew at each frame.
    Changes the stage's scene for good. Raises SceneError where motion cannot be read, because the
    camera sees more than ``most`` triangles, or there is no memory left for them.
    """
    try:
        return _render_motion(MotionRenderer(stage, scratch, most), timing, wanted, on_step)
    except MemoryError as error:
        raise SceneError(
            "There is not enough memory to read the motion of all that the camera sees. Hide what "
            "is scattered, or close other programs."
        ) from error
    except RuntimeError as error:
        raise SceneError(f"Blender could not read the scene's motion: {error}") from error


def _render_motion(
    renderer: MotionRenderer, timing: ClipTiming, wanted: Wanted, on_step: OnStep
) -> list[str]:
    times = [timing.scene_time(k) for k in range(timing.frames)]
    moments: dict[int, Moment] = {}
    looks: dict[int, Look] = {}

    def moment(k: int) -> Moment:
        if k not in moments:
            moments[k] = renderer.read(times[k])
        return moments[k]

    def look(k: int) -> Look:
        if k not in looks:
            looks[k] = renderer.look(moment(k), [moment(o) for o in wanted.get(times[k], {})])
        return looks[k]

    for done, (when, sides) in enumerate(sorted(wanted.items()), start=1):
        own = times.index(when) if when in times else None
        for kept in (moments, looks):
            for k in [k for k in kept if k < min(sides) and k != own]:
                del kept[k]
        if own is None:
            seen_now = renderer.look(renderer.read(when), [moment(k) for k in sides])
        else:
            seen_now = look(own)
        motions = renderer.motions(seen_now, [look(k).seen for k in sides])
        if own is not None:  # its other times are not held any longer
            looks[own] = replace(seen_now, others=())
        for path, motion in zip(sides.values(), motions, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_png(path, motion)
        on_step(done, len(wanted), f"motion {done} of {len(wanted)}")
    return sorted(renderer.remade)
