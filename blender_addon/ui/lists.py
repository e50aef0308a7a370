"""The rows of the takes and shots lists. They live in the window manager: no .blend needs them."""

import bpy

from .shot_states import ShotState


class AnimaticTake(bpy.types.PropertyGroup):
    """A take on disk; ``shown`` when its strip is the one that is seen."""

    folder: bpy.props.StringProperty()
    # The names that its shot had when it was made, where it has others now.
    once: bpy.props.StringProperty()
    # A seed may be larger than an IntProperty holds.
    seed: bpy.props.StringProperty()
    icon: bpy.props.IntProperty()
    shown: bpy.props.BoolProperty()
    is_movie: bpy.props.BoolProperty()


class AnimaticShot(bpy.types.PropertyGroup):
    """A shot of the scene, how far it is, and how many takes it has."""

    start: bpy.props.IntProperty()
    end: bpy.props.IntProperty()
    takes: bpy.props.IntProperty()
    icon: bpy.props.IntProperty()
    state: bpy.props.StringProperty(default=ShotState.NOT_YET.name)


def _go_to_shot(lists: "AnimaticLists", context: bpy.types.Context) -> None:
    shot = lists.shots[lists.shots_index]
    if not shot.start <= context.scene.frame_current <= shot.end:
        context.scene.frame_current = shot.start


class AnimaticLists(bpy.types.PropertyGroup):
    """The lists of a scene."""

    takes: bpy.props.CollectionProperty(type=AnimaticTake)
    takes_index: bpy.props.IntProperty(
        name="Take", description="The take that the buttons below are for"
    )
    shots: bpy.props.CollectionProperty(type=AnimaticShot)
    shots_index: bpy.props.IntProperty(
        name="Shot", description="Click a shot to go there", update=_go_to_shot
    )
    span: bpy.props.StringProperty()
    # What is compared, and whether a take is behind the shot's camera.
    review: bpy.props.StringProperty()
    behind_camera: bpy.props.BoolProperty()


class AnimaticListsOfScene(bpy.types.PropertyGroup):
    """The lists of the scene whose ``session_uid`` is the name."""

    # A pointer stays where it is when the collection grows, and a panel may hold on to it.
    lists: bpy.props.PointerProperty(type=AnimaticLists)


class AnimaticScenes(bpy.types.PropertyGroup):
    """What ``WindowManager.animatic`` holds: two windows may show two scenes."""

    scenes: bpy.props.CollectionProperty(type=AnimaticListsOfScene)


def lists_of(scene: bpy.types.Scene) -> AnimaticLists | None:
    """The lists of ``scene``; None until they are first filled, which drawing may not do."""
    known = bpy.context.window_manager.animatic.scenes.get(str(scene.session_uid))
    return known.lists if known is not None else None


def new_lists(scene: bpy.types.Scene) -> AnimaticLists:
    """As ``lists_of``, made where there are none yet."""
    known = lists_of(scene)
    if known is None:
        made = bpy.context.window_manager.animatic.scenes.add()
        made.name = str(scene.session_uid)
        known = made.lists
    return known


class ANIMATIC_UL_takes(bpy.types.UIList):
    """A row: whether it is shown, its number, its seed."""

    def draw_item(self, _context, layout, _data, item, _icon, _active_data, _active_name) -> None:
        """Draw one take."""
        row = layout.row(align=True)
        picked = row.operator(
            "animatic.take_pick",
            text="",
            icon="HIDE_OFF" if item.shown else "HIDE_ON",
            emboss=False,
        )
        picked.folder = item.folder
        row.label(text=item.name, icon_value=item.icon)
        if item.once:
            once = row.row()
            once.active = False
            once.label(text=item.once)
        seed = row.row()
        seed.active = False
        seed.label(text=f"Seed {item.seed}")


class ANIMATIC_UL_shots(bpy.types.UIList):
    """A row: its first take, its name, its frames, how many takes it has, how far it is."""

    def draw_item(self, _context, layout, _data, item, _icon, _active_data, _active_name) -> None:
        """Draw one shot."""
        row = layout.row(align=True)
        if item.icon:
            row.label(text=item.name, icon_value=item.icon)
        else:
            row.label(text=item.name, icon="OUTLINER_OB_CAMERA")
        told = row.row(align=True)
        told.alignment = "RIGHT"
        told.label(text=f"{item.start} to {item.end}")
        if item.takes:
            told.separator(factor=0.5)
            told.label(text=str(item.takes), icon="SEQUENCE")
        told.label(text="", icon=ShotState[item.state].icon)


CLASSES = (
    AnimaticTake,
    AnimaticShot,
    AnimaticLists,
    AnimaticListsOfScene,
    AnimaticScenes,
    ANIMATIC_UL_takes,
    ANIMATIC_UL_shots,
)
