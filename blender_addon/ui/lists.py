"""The rows of the takes and shots lists. They live in the window manager: no .blend needs them."""

import bpy

from .shot_states import ShotState


class AnimaticTake(bpy.types.PropertyGroup):
    """A take on disk; ``shown`` when its strip is the one that is seen."""

    folder: bpy.props.StringProperty()
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
    """What ``WindowManager.animatic`` holds."""

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


CLASSES = (AnimaticTake, AnimaticShot, AnimaticLists, ANIMATIC_UL_takes, ANIMATIC_UL_shots)
