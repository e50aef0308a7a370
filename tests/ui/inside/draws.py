"""Panels and preferences draw in every state, with names and icons that this Blender knows."""

from types import SimpleNamespace

import bpy
import harness

ICONS = set(bpy.types.UILayout.bl_rna.functions["prop"].parameters["icon"].enum_items.keys())


class Layout:
    """Takes the calls of a draw function and checks their names."""

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def _part(self, **_options) -> "Layout":
        return Layout(self.seen)

    row = column = box = split = _part

    def prop(self, data, name: str, *, icon: str = "NONE", text=None, placeholder="") -> None:
        assert name in data.bl_rna.properties, name
        assert icon in ICONS, icon
        self.seen.append(name)

    def operator(self, name: str, *, icon: str = "NONE", text=None) -> None:
        group, _, operator = name.partition(".")
        assert operator in dir(getattr(bpy.ops, group)), name
        assert icon in ICONS, icon
        self.seen.append(name)

    def label(self, *, text: str, icon: str = "NONE") -> None:
        assert icon in ICONS, icon
        self.seen.append(text)

    def progress(self, *, factor: float, text: str) -> None:
        assert 0 <= factor <= 1
        self.seen.append(text)


def draw(cls: type, context) -> list[str]:
    seen: list[str] = []
    cls.draw(SimpleNamespace(layout=Layout(seen)), context)
    return seen


with harness.extension() as session:
    import importlib

    panel = importlib.import_module(f"{harness.MODULE}.blender_addon.ui.panel")
    job = importlib.import_module(f"{harness.MODULE}.blender_addon.ui.job")
    harness.save_scene("draws.blend")
    context = SimpleNamespace(
        scene=bpy.context.scene,
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)),  # 0 without a window
        region=SimpleNamespace(width=280),
    )
    settings = bpy.context.scene.animatic
    for group in ("guide", "keyframes"):
        for item in settings.bl_rna.properties[group].enum_items:
            assert item.icon in ICONS, item.icon
    for cls in panel.CLASSES:
        assert cls.is_registered
        for choice in ("camera", "every", "list"):
            settings.keyframes = choice
            assert draw(cls, context)
    main = panel.CLASSES[0]
    assert "animatic.generate" in draw(main, context)
    session._session.status = job.Status(job.State.RUNNING, "Sampling 3 of 20", 0.15)
    seen = draw(main, context)
    assert "Sampling 3 of 20" in seen
    assert "animatic.cancel" in seen
    assert "animatic.generate" not in seen
    sentence = "There is no model called 'nothing': give the path of a folder."
    session.fail(sentence)
    assert sentence in " ".join(draw(main, context))
    bpy.context.scene.camera = None
    assert "No active camera" in draw(main, context)
    shown = bpy.context.preferences.addons[harness.MODULE].preferences
    seen = []
    layout = Layout(seen)
    type(shown).draw(SimpleNamespace(layout=layout, bl_rna=shown.bl_rna), bpy.context)
    assert seen == ["engine_python", "blender", "output"]
print("DONE")
