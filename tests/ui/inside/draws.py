"""Panels and preferences draw in every state, with names and icons that this Blender knows."""

from types import SimpleNamespace

import bpy
import harness

PROP = ("data", "property")
ICONS = set(bpy.types.UILayout.bl_rna.functions["prop"].parameters["icon"].enum_items.keys())


class Layout:
    """Takes the calls of a draw function; checks names, icons and options against Blender's own."""

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def __getattr__(self, name: str):
        function = bpy.types.UILayout.bl_rna.functions[name]

        def call(*arguments, **options):
            parameters = [each for each in function.parameters if not each.is_output]
            given = dict(zip([each.identifier for each in parameters], arguments, strict=False))
            given |= options
            assert set(given) <= {each.identifier for each in parameters}, (name, given)
            assert given.get("icon", "NONE") in ICONS, given["icon"]
            return self._take(name, given)

        return call

    def _take(self, name: str, given: dict):
        if name.startswith("operator"):
            group, _, operator = given["operator"].partition(".")
            assert operator in dir(getattr(bpy.ops, group)), given
            self.seen.append(given["operator"])
            return SimpleNamespace()  # the operator's properties
        if name in ("prop", "prop_search", "template_list"):
            data, prop = (
                given[key] for key in (("dataptr", "propname") if "dataptr" in given else PROP)
            )
            assert prop in data.bl_rna.properties, prop
            self.seen.append(prop)
            if name == "template_list":
                assert given["active_propname"] in given["active_dataptr"].bl_rna.properties
                kind = getattr(bpy.types, given["listtype_name"])
                for item in getattr(data, prop):
                    kind.draw_item(None, None, self, data, item, 0, None, "")
            return None
        if name == "progress":
            assert 0 <= given["factor"] <= 1
        if given.get("text"):
            self.seen.append(given["text"])
        return Layout(self.seen)


def draw(cls: type, context) -> list[str]:
    seen: list[str] = []
    cls.draw(SimpleNamespace(layout=Layout(seen)), context)
    return seen


with harness.extension() as session:
    panel, job = harness.module("ui.panel"), harness.module("ui.job")
    harness.save_scene("draws.blend")
    context = SimpleNamespace(
        scene=bpy.context.scene,
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)),  # 0 without a window
        region=SimpleNamespace(width=280),
        window_manager=bpy.context.window_manager,
    )
    settings = bpy.context.scene.animatic
    for item in settings.bl_rna.properties["guide"].enum_items:
        assert item.icon in ICONS, item.icon
    for cls in panel.CLASSES:
        assert cls.is_registered
        assert draw(cls, context)
    # with rows in every list, and what a preview of the guides has found
    bpy.ops.animatic.guide_frame_add()
    lists = bpy.context.window_manager.animatic
    for rows in (lists.takes, lists.shots):
        rows.add().name = "Wide"
    lists.shots[0].takes = 2
    report = harness.module("ui.guides_report")
    report.remember(
        {"depth": {"near": 2.0, "far": 31.4159}, "guides": [], "keyframes": []}, harness.SCRATCH
    )
    drawn = [word for cls in panel.CLASSES for word in draw(cls, context)]
    assert {"Depth 2 m to 31.4 m", "takes", "shots", "animatic.take_pick"} <= set(drawn), drawn
    main = panel.CLASSES[0]
    assert "animatic.generate" in draw(main, context)
    estimate = harness.module("ui.estimate")
    for prompt, told in (("a red robot", True), ("a red box", False)):
        settings.prompt = prompt
        estimate.refresh()
        assert ("robot" in " ".join(draw(main, context))) == told, prompt
    session._session.status = job.Status(
        job.State.RUNNING, "Sampling 3 of 20", left="about 10 s left"
    )
    seen = draw(main, context)
    assert "Sampling 3 of 20" in seen
    assert "animatic.cancel" in seen
    assert "animatic.generate" not in seen
    sentence = "There is no model called 'nothing': give the path of a folder."
    session.fail(sentence)
    assert sentence in " ".join(draw(main, context))
    bpy.context.scene.camera = None
    assert "No active camera" in draw(main, context)
print("DONE")
