"""Analytic ray casting of boxes, spheres, cylinders, cones and wedges on a ground, in batches.

Axes and cameras are Blender's: Z is up, a camera looks along its own -Z, its sensor is 36 mm wide.
Depth is planar (along the viewing axis), as Blender's Z pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

BOX, SPHERE, CYLINDER, CONE, WEDGE = range(5)
NOTHING, GROUND = -1, 0  # ids of the sky and the ground; object n has id n + 1
_FAR = 1e9


@dataclass
class Scene:
    """``b`` clips of ``f`` frames with up to ``n`` objects each. Lengths are in metres.

    An object is a primitive inside the cube [-1, 1]^3, scaled by ``half`` and turned by
    ``rotation`` (columns are the object's axes in the world). The wedge is the cube's half
    below the plane x + z = 0; cylinder and cone stand along z.
    """

    kind: Tensor  # [b, n] int, -1 where there is no object
    centre: Tensor  # [b, f, n, 3]
    half: Tensor  # [b, n, 3]
    rotation: Tensor  # [b, n, 3, 3]
    object_colour: Tensor  # [b, n, 3] linear RGB
    ground_colour: Tensor  # [b, 3] linear RGB
    ground_size: Tensor  # [b] half the side of the square ground
    sun: Tensor  # [b, 3] unit vector towards the sun
    sun_colour: Tensor  # [b, 3]
    sky_light: Tensor  # [b, 3] light from all sides
    horizon: Tensor  # [b, 3] colour of the sky at the horizon, and of the fog
    zenith: Tensor  # [b, 3]
    fog: Tensor  # [b] share of light lost per metre (Beer-Lambert)
    camera: Tensor  # [b, f, 3]
    camera_rotation: Tensor  # [b, f, 3, 3] columns are the camera's right, up and back
    focal: Tensor  # [b, f] mm

    def __len__(self) -> int:
        return self.kind.shape[0]

    def select(self, clips: Tensor | slice) -> "Scene":
        """The scene with only the clips at an index."""
        return Scene(**{name: value[clips] for name, value in vars(self).items()})

    def to(self, device: torch.device) -> "Scene":
        """The scene on a device; everything that is traced from it is there too."""
        return Scene(**{name: value.to(device) for name, value in vars(self).items()})


@dataclass
class Hits:
    """What each ray meets first; leading shape [b, f, p] for p rays a frame."""

    distance: Tensor  # in lengths of the ray's direction; inf where nothing is met
    ident: Tensor  # int16: NOTHING, GROUND, or object number + 1
    met: Tensor  # int32: bit ident is set for all that the ray meets, also behind the nearest
    bent: Tensor  # bool: on a sphere, or on the side of a cylinder or cone
    normal: Tensor  # [..., 3] unit, in the world
    direction: Tensor  # [..., 3] in the world; its component along the camera's axis is 1


def camera_rays(scene: Scene, size: int) -> Tensor:
    """Directions [b, f, size*size, 3] through pixel centres of a square picture.

    A direction's planar length is 1, so that distances along it are planar depth.
    """
    step = torch.arange(size, dtype=torch.float32, device=scene.focal.device)
    step = (step + 0.5) / size * 2 - 1
    right = step[None, :].expand(size, size)
    down = step[:, None].expand(size, size)
    plane = torch.stack([right, -down], dim=-1).reshape(1, 1, -1, 2)
    plane = plane * (18.0 / scene.focal)[..., None, None]
    axes = scene.camera_rotation[:, :, None]
    return plane[..., :1] * axes[..., 0] + plane[..., 1:] * axes[..., 1] - axes[..., 2]


def _slabs(origin: tuple[Tensor, ...], ray: tuple[Tensor, ...], wedge: bool) -> tuple:
    near = torch.full_like(ray[0], -_FAR)
    far = torch.full_like(ray[0], _FAR)
    face = torch.zeros_like(ray[0], dtype=torch.int8)
    for axis in range(3):
        inverse = 1.0 / torch.where(ray[axis].abs() < 1e-9, 1e-9, ray[axis])
        middle, reach = -origin[axis] * inverse, inverse.abs()
        face = torch.where(middle - reach > near, axis, face)
        near = torch.maximum(near, middle - reach)
        far = torch.minimum(far, middle + reach)
    if wedge:
        slope, height = ray[0] + ray[2], -(origin[0] + origin[2])
        slope = torch.where(slope.abs() < 1e-9, 1e-9, slope)
        cut = height / slope
        enters = slope < 0
        face = torch.where(enters & (cut > near), 3, face)
        near = torch.where(enters, torch.maximum(near, cut), near)
        far = torch.where(enters, far, torch.minimum(far, cut))
    hit = (near <= far) & (near > 1e-4)
    return torch.where(hit, near, _FAR), face


def _round(origin: tuple[Tensor, ...], ray: tuple[Tensor, ...], kind: int) -> tuple:
    """Sphere, cylinder and cone; the cone's apex is at z = 1."""
    (x, y, z), (u, v, w) = origin, ray
    if kind == SPHERE:
        a, b = u * u + v * v + w * w, x * u + y * v + z * w
        c = x * x + y * y + z * z - 1
    elif kind == CYLINDER:
        a, b, c = u * u + v * v, x * u + y * v, x * x + y * y - 1
    else:
        # radius(z) = (1 - z) / 2
        r = (1 - z) / 2
        a, b, c = u * u + v * v - w * w / 4, x * u + y * v + r * w / 2, x * x + y * y - r * r
    a = torch.where(a.abs() < 1e-9, 1e-9, a)
    root = (b * b - a * c).clamp(min=0).sqrt()
    solid = b * b - a * c > 0
    first, second = (-b - root) / a, (-b + root) / a
    best = torch.full_like(u, _FAR)
    for t in (first, second):
        height = z + t * w
        good = solid & (t > 1e-4) & (t < best)
        if kind != SPHERE:
            good &= height.abs() <= 1
        best = torch.where(good, t, best)
    cap = torch.zeros_like(u, dtype=torch.bool)
    if kind != SPHERE:
        steep = torch.where(w.abs() < 1e-9, 1e-9, w)
        for level in (-1.0, 1.0) if kind == CYLINDER else (-1.0,):
            t = (level - z) / steep
            inside = (x + t * u) ** 2 + (y + t * v) ** 2 <= 1
            good = inside & (t > 1e-4) & (t < best)
            best, cap = torch.where(good, t, best), torch.where(good, True, cap)
    return best, cap


def _local_normal(
    kind: int, origin: tuple[Tensor, ...], ray: tuple[Tensor, ...], t: Tensor, mark: Tensor
) -> Tensor:
    x, y, z = (o + t * d for o, d in zip(origin, ray, strict=True))
    if kind in (BOX, WEDGE):
        parts = [-torch.sign(ray[axis]) * (mark == axis) for axis in range(3)]
        normal = torch.stack(parts, dim=-1)
        slope = (mark == 3).float()
        return normal + torch.stack([slope, torch.zeros_like(slope), slope], dim=-1)
    if kind == SPHERE:
        return torch.stack([x, y, z], dim=-1)
    side = torch.zeros_like(z) if kind == CYLINDER else (1 - z) / 4
    up = torch.where(mark, torch.sign(z), side)
    return torch.stack([x * ~mark, y * ~mark, up], dim=-1)


def _near_rays(
    scene: Scene, slot: int, origin: Tensor, direction: Tensor
) -> Iterator[tuple[int, tuple[Tensor, Tensor, Tensor], Tensor, Tensor]]:
    """Rays that pass through the sphere around the objects in a slot, by kind of object.

    ``origin`` and ``direction`` are [b, f, p or 1, 3]. Yields (kind, index, origin, direction):
    the index picks rays out of [b, f, p], the last two are [k, 3]. Most objects cover little of a
    picture, so this saves most of the work.
    """
    clips = (scene.kind[:, slot] >= 0).nonzero()[:, 0]
    if not len(clips):
        return
    # A unit cube's corners are sqrt(3) from its centre.
    radius = scene.half[clips, slot].norm(dim=-1)[:, None, None]
    away = scene.centre[clips, :, slot][:, :, None, :] - origin[clips]
    rays = direction[clips]
    square = (rays * rays).sum(-1)
    along = (rays * away).sum(-1)
    apart = (away * away).sum(-1) * square - along * along
    at = ((apart <= radius * radius * square) & (along > -radius * square.sqrt())).nonzero()
    clip, frame, pixel = clips[at[:, 0]], at[:, 1], at[:, 2]
    kinds = scene.kind[clip, slot]
    for kind in kinds.unique().tolist():
        chosen = kinds == kind
        index = (clip[chosen], frame[chosen], pixel[chosen])
        first = origin.expand(-1, -1, max(origin.shape[2], direction.shape[2]), -1)
        second = direction.expand_as(first)
        yield kind, index, first[index], second[index]


def _meet(
    scene: Scene, slot: int, kind: int, index: tuple[Tensor, ...], origin: Tensor, ray: Tensor
) -> tuple:
    """Distances [k] (_FAR: missed), and what is needed for the normals."""
    clip, frame, _ = index
    matrix = (scene.rotation[:, slot] / scene.half[:, slot][:, None, :])[clip]
    local_origin = torch.einsum("ki,kij->jk", origin - scene.centre[clip, frame, slot], matrix)
    local_ray = torch.einsum("ki,kij->jk", ray, matrix)
    start, way = local_origin.unbind(0), local_ray.unbind(0)
    if kind in (BOX, WEDGE):
        t, mark = _slabs(start, way, kind == WEDGE)
    else:
        t, mark = _round(start, way, kind)
    return t, mark, start, way, matrix


def trace(scene: Scene, direction: Tensor) -> Hits:
    """The nearest surface along camera rays ``direction`` [b, f, p, 3]."""
    # The ground is the plane z = 0, cut to a square.
    eye = scene.camera[:, :, None, :]
    t = -eye[..., 2] / torch.where(direction[..., 2] > -1e-7, -1e-7, direction[..., 2])
    reach = (eye + t[..., None] * direction)[..., :2].abs().amax(dim=-1)
    ground = (direction[..., 2] < -1e-7) & (reach <= scene.ground_size[:, None, None])
    distance = torch.where(ground, t, _FAR)
    ident = torch.where(ground, GROUND, NOTHING).to(torch.int16)
    met = ground.to(torch.int32)
    bent = torch.zeros_like(ground)
    normal = torch.zeros_like(direction)
    normal[..., 2] = ground.float()
    for slot in range(scene.kind.shape[1]):
        for kind, index, origin, ray in _near_rays(scene, slot, eye, direction):
            t, mark, start, way, matrix = _meet(scene, slot, kind, index, origin, ray)
            met[index] |= (t < _FAR).to(torch.int32) << (slot + 1)
            nearer = t < distance[index]
            local = _local_normal(kind, start, way, t, mark)
            # A normal is a covector: it goes through the inverse transpose, rotation / half.
            world = torch.einsum("kj,kij->ki", local, matrix)
            world = world / world.norm(dim=-1, keepdim=True).clamp(min=1e-9)
            index = index[0][nearer], index[1][nearer], index[2][nearer]
            distance[index] = t[nearer]
            ident[index] = slot + 1
            bent[index] = ~mark[nearer] if kind not in (BOX, WEDGE) else False
            normal[index] = world[nearer]
    distance = torch.where(distance >= _FAR, torch.inf, distance)
    return Hits(distance, ident, met, bent, normal, direction)


def _in_shadow(scene: Scene, point: Tensor) -> Tensor:
    """Whether an object stands between points [b, f, p, 3] and the sun."""
    shadow = torch.zeros(point.shape[:-1], dtype=torch.bool, device=point.device)
    sun = scene.sun[:, None, None, :].expand(-1, point.shape[1], 1, 3)
    for slot in range(scene.kind.shape[1]):
        for kind, index, origin, ray in _near_rays(scene, slot, point, sun):
            t, *_ = _meet(scene, slot, kind, index, origin, ray)
            shadow[index] |= t < _FAR
    return shadow


def shade(scene: Scene, hits: Hits) -> Tensor:
    """Display colours [b, f, p, 3] in [0, 1]: one sun with hard shadows, sky light, fog, gamma."""

    def per_clip(value: Tensor) -> Tensor:
        return value[:, None, None, :]

    seen = torch.where(hits.distance.isfinite(), hits.distance, 0.0)
    eye = scene.camera[:, :, None, :]
    point = eye + seen[..., None] * hits.direction + 1e-3 * hits.normal
    facing = (hits.normal * per_clip(scene.sun)).sum(-1).clamp(min=0)
    lit = facing * ~_in_shadow(scene, point)
    upness = 0.6 + 0.4 * hits.normal[..., 2:]
    light = lit[..., None] * per_clip(scene.sun_colour) + upness * per_clip(scene.sky_light)
    palette = torch.cat([scene.ground_colour[:, None], scene.object_colour], dim=1)
    index = hits.ident.clamp(min=0).long().flatten(1)
    surface = palette.gather(1, index[..., None].expand(-1, -1, 3)).view_as(light)
    steep = hits.direction / hits.direction.norm(dim=-1, keepdim=True)
    rise = steep[..., 2:].clamp(min=0).sqrt()
    sky = per_clip(scene.horizon) * (1 - rise) + per_clip(scene.zenith) * rise
    length = seen * hits.direction.norm(dim=-1)
    haze = 1 - torch.exp(-scene.fog[:, None, None] * length)[..., None]
    colour = surface * light * (1 - haze) + per_clip(scene.horizon) * haze
    colour = torch.where((hits.ident == NOTHING)[..., None], sky, colour)
    return colour.clamp(0, 1) ** (1 / 2.2)
