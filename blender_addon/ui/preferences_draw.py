"""Draws the preferences from what is known; computes and reads nothing."""

import textwrap

import bpy

from ..link.install_models import KnownModel
from ..link.install_torch import builds
from .preferences_engine import EngineControl, Progress, State

_ICONS = {
    State.NOT_INSTALLED: "IMPORT",
    State.INSTALLING: "SORTTIME",
    State.STOPPED: "PAUSE",
    State.STARTING: "SORTTIME",
    State.READY: "CHECKMARK",
    State.BUSY: "RENDER_ANIMATION",
    State.FAILED: "ERROR",
}


def draw(
    layout: bpy.types.UILayout,
    chosen: bpy.types.AddonPreferences,
    context: bpy.types.Context,
    control: EngineControl,
) -> None:
    """Everything, from top to bottom."""
    columns = _columns(context)
    _heading(layout, "Engine")
    row = layout.row()
    row.prop(chosen, "engine_where", expand=True)
    if chosen.engine_where == "remote":
        _draw_remote(layout, chosen, control, columns)
    else:
        _draw_local(layout, chosen, control, columns)
    layout.separator()
    _heading(layout, "Models")
    _draw_models(layout, chosen, control, columns)
    layout.separator()
    _heading(layout, "Takes")
    _split(layout).prop(chosen, "output", placeholder="//animatic/{file}")
    layout.separator()
    _draw_expert(layout, chosen)


def _draw_local(
    layout: bpy.types.UILayout,
    chosen: bpy.types.AddonPreferences,
    control: EngineControl,
    columns: int,
) -> None:
    box = layout.box()
    row = box.row()
    row.label(text=control.state.value, icon=_ICONS[control.state])
    buttons = row.row(align=True)
    buttons.alignment = "RIGHT"
    state = control.state
    if state in (State.READY, State.BUSY) and not control.working:
        buttons.operator("animatic.engine_stop", text="Stop", icon="PAUSE")
        buttons.operator("animatic.engine_restart", text="Restart", icon="FILE_REFRESH")
    elif state is State.STOPPED or (state is State.FAILED and control.own):
        buttons.operator("animatic.engine_start", text="Start", icon="PLAY")
    if state is State.INSTALLING:
        _draw_progress(box, control.progress, "animatic.engine_cancel")
    elif state is State.BUSY and control.working:
        box.label(text=control.progress.phase)
    for sentence in (control.message, control.note):
        _sentence(box, sentence, columns)
    if state is State.NOT_INSTALLED or (state is State.FAILED and not control.own):
        _draw_install(box, chosen, control, columns)
    elif control.own and not control.working:
        row = box.row(align=True)
        row.operator("animatic.engine_repair", text="Repair", icon="TOOL_SETTINGS")
        row.operator("animatic.engine_remove", text="Remove", icon="TRASH")
        row.operator("animatic.engine_log", text="Open Log", icon="TEXT")
    if state is State.FAILED and not control.own:
        box.operator("animatic.engine_log", text="Open Log", icon="TEXT")


def _draw_install(
    box: bpy.types.UILayout,
    chosen: bpy.types.AddonPreferences,
    control: EngineControl,
    columns: int,
) -> None:
    build = builds().get(chosen.torch_build, control.build)
    if build is None:
        return
    _sentence(
        box,
        f"Install loads about {build.download_mb / 1000:.1f} GB of free software from the "
        f"internet into a folder of its own ({build.disk_mb / 1000:.1f} GB), to compute on "
        f"{build.label}. Blender itself is not changed.",
        columns,
        icon="INFO",
    )
    _split(box).prop(chosen, "torch_build")
    row = box.row()
    row.scale_y = 1.3
    row.operator("animatic.engine_install", text="Install", icon="IMPORT")


def _draw_remote(
    layout: bpy.types.UILayout,
    chosen: bpy.types.AddonPreferences,
    control: EngineControl,
    columns: int,
) -> None:
    box = layout.box()
    column = _split(box)
    column.prop(chosen, "remote_address", placeholder="https://gpu.example.com")
    column.prop(chosen, "remote_token")
    row = box.row()
    asked = control.remote_state is not State.STOPPED
    if asked:
        state = control.remote_state
        word = "Asking" if state is State.STARTING else state.value
        row.label(text=word, icon=_ICONS[state])
    row.operator("animatic.engine_check_remote", text="Check Connection", icon="URL")
    _sentence(box, control.remote_message, columns)


def _draw_models(
    layout: bpy.types.UILayout,
    chosen: bpy.types.AddonPreferences,
    control: EngineControl,
    columns: int,
) -> None:
    for model in control.models:
        _draw_model(layout.box(), model, control, columns)
    _sentence(layout, control.model_message, columns, icon="INFO")
    _split(layout).prop(chosen, "models_folder", placeholder="In your user data folder")
    for index, folder in enumerate(chosen.model_folders):
        row = layout.row(align=True)
        row.prop(folder, "path", text="")
        row.operator("animatic.model_folder_remove", text="", icon="X").index = index
    layout.operator("animatic.model_folder_add", text="Add Models Folder", icon="ADD")


def _draw_model(
    box: bpy.types.UILayout, model: KnownModel, control: EngineControl, columns: int
) -> None:
    row = box.split(factor=0.75)
    row.label(text=model.title, icon="CHECKMARK" if model.installed else "BLANK1")
    if control.downloading == model.name:
        _draw_progress(box, control.model_progress, "animatic.model_cancel")
    elif not model.installed:
        button = row.row()
        button.enabled = not control.downloading
        button.operator("animatic.model_download", text="Download", icon="IMPORT").name = model.name
    _sentence(box, f"{model.purpose}.", columns, icon="BLANK1")
    row = box.split(factor=0.75)
    row.label(text=f"{_size(model.bytes)} · {model.licence}", icon="BLANK1")
    row.operator("wm.url_open", text="Licence", icon="URL").url = model.licence_url


def _draw_expert(layout: bpy.types.UILayout, chosen: bpy.types.AddonPreferences) -> None:
    icon = "DISCLOSURE_TRI_DOWN" if chosen.show_expert else "DISCLOSURE_TRI_RIGHT"
    row = layout.row()
    row.alignment = "LEFT"
    row.prop(chosen, "show_expert", icon=icon, emboss=False)
    if chosen.show_expert:
        column = _split(layout)
        column.prop(chosen, "engine_python", placeholder="The one that Install makes")
        column.prop(chosen, "blender", placeholder=bpy.app.binary_path or "This Blender")


def _draw_progress(layout: bpy.types.UILayout, progress: Progress, cancel: str) -> None:
    row = layout.row(align=True)
    text = f"{progress.phase}  {progress.counted}" if progress.counted else progress.phase
    row.progress(factor=min(1.0, progress.fraction), text=text)
    row.operator(cancel, text="", icon="X")
    if progress.line:
        layout.label(text=progress.line)


def _heading(layout: bpy.types.UILayout, text: str) -> None:
    layout.label(text=text)


def _split(layout: bpy.types.UILayout) -> bpy.types.UILayout:
    column = layout.column()
    column.use_property_split = True
    column.use_property_decorate = False
    return column


def _sentence(layout: bpy.types.UILayout, text: str, columns: int, icon: str = "ERROR") -> None:
    if not text:
        return
    column = layout.column()
    column.scale_y = 0.8
    for number, line in enumerate(textwrap.wrap(text, columns)):
        column.label(text=line, icon=icon if number == 0 else "BLANK1")


def _columns(context: bpy.types.Context) -> int:
    # About 7 pixels a letter at scale 1, less the margins of the boxes around.
    scale = context.preferences.system.ui_scale or 1.0
    width = context.region.width if context.region is not None else 0
    return max(40, int(width / (7 * scale)) - 14)


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 / 2 else f"{size / 1e6:.0f} MB"
