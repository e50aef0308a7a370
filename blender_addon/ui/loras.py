"""The list of LoRAs: small files that teach the model a style, a subject or a camera move."""

import bpy

from ..errors import AnimaticError
from ..link.catalogue import LORA_SUFFIXES, LORAS
from .asked import current_shot, find_model
from .camera_motion import MOVES, camera_move

_SCALE = 0.8


def _suggest_files(_lora: "AnimaticLora", context: bpy.types.Context, text: str) -> list[str]:
    # Called when the artist opens the field, not on every redraw.
    return [name for name in files_here(context) if text.lower() in name.lower()]


def files_here(context: bpy.types.Context) -> list[str]:
    """The names of the LoRAs that lie with the model; none where it is with a remote engine."""
    try:
        folder = find_model(context.scene.animatic.model).folder
    except AnimaticError:
        return []
    places = {folder / LORAS, folder.parent / LORAS} if folder.is_absolute() else set()
    return sorted(
        path.stem for place in places for path in place.glob("*") if path.suffix in LORA_SUFFIXES
    )


class AnimaticLora(bpy.types.PropertyGroup):
    """A LoRA and how strongly it is mixed in. ``name`` is that of its file, without the suffix."""

    name: bpy.props.StringProperty(
        name="Name",
        description="The name of its file in the folder loras beside your models",
        search=_suggest_files,
        search_options={"SORT", "SUGGESTION"},
    )
    scale: bpy.props.FloatProperty(
        name="Amount",
        description="How strongly it shows. Below 0 turns its effect around",
        default=_SCALE,
        min=-2.0,
        max=2.0,
        soft_min=0.0,
        soft_max=1.5,
        precision=2,
        step=5,
    )
    enabled: bpy.props.BoolProperty(
        name="Use", description="Mix it in; off keeps it in the list for later", default=True
    )


class ANIMATIC_UL_loras(bpy.types.UIList):
    """A row: use, name, amount."""

    def draw_item(self, _context, layout, _data, item, _icon, _active_data, _active_name) -> None:
        """Draw one LoRA."""
        row = layout.row(align=True)
        row.prop(item, "enabled", text="")
        named = row.split(factor=0.62, align=True)
        named.active = item.enabled
        named.label(text=item.name or "No file chosen")
        named.prop(item, "scale", text="", slider=True)


class ANIMATIC_OT_lora_add(bpy.types.Operator):
    """Mix in a LoRA: a style, a subject or a camera move that the model has learned besides"""

    bl_idname = "animatic.lora_add"
    bl_label = "Add LoRA"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Add a row, with the first file that is not in the list yet."""
        settings = context.scene.animatic
        listed = {item.name for item in settings.loras}
        free = [name for name in files_here(context) if name not in listed]
        settings.loras.add().name = free[0] if free else ""
        settings.loras_index = len(settings.loras) - 1
        return {"FINISHED"}


class ANIMATIC_OT_lora_remove(bpy.types.Operator):
    """Take this LoRA off the list; its file stays"""

    bl_idname = "animatic.lora_remove"
    bl_label = "Remove LoRA"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """With a row that is active."""
        settings = context.scene.animatic
        return 0 <= settings.loras_index < len(settings.loras)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Remove the active row."""
        settings = context.scene.animatic
        settings.loras.remove(settings.loras_index)
        settings.loras_index = max(0, min(settings.loras_index, len(settings.loras) - 1))
        return {"FINISHED"}


class ANIMATIC_OT_lora_suggest(bpy.types.Operator):
    """Add the MotionLoRA that knows the move your camera makes in this shot"""

    bl_idname = "animatic.lora_suggest"
    bl_label = "Suggest From Camera"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Look at the camera at both ends of the shot, and for a file of that name."""
        settings = context.scene.animatic
        try:
            shot = current_shot(context.scene)
            move = camera_move(context.scene, shot.start, shot.end)
        except AnimaticError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if move is None:
            self.report({"INFO"}, "The camera stands still in this shot: no move to suggest.")
            return {"CANCELLED"}
        fitting = [name for name in files_here(context) if move in _plain(name)]
        if not fitting:
            self.report(
                {"WARNING"},
                f"The camera {MOVES[move]}, but there is no LoRA with {move} in its name "
                "in the folder loras beside your models.",
            )
            return {"CANCELLED"}
        if fitting[0] not in [item.name for item in settings.loras]:
            settings.loras.add().name = fitting[0]
            settings.loras_index = len(settings.loras) - 1
        self.report({"INFO"}, f"The camera {MOVES[move]}: {fitting[0]}.")
        return {"FINISHED"}


def _plain(name: str) -> str:
    return "".join(sign for sign in name.lower() if sign.isalnum())


CLASSES = (
    AnimaticLora,
    ANIMATIC_UL_loras,
    ANIMATIC_OT_lora_add,
    ANIMATIC_OT_lora_remove,
    ANIMATIC_OT_lora_suggest,
)
