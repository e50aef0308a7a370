"""Lets a panel draw without a window, and tells what it has drawn."""

from __future__ import annotations

from types import SimpleNamespace

import bpy

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


def context_of(scene: bpy.types.Scene) -> SimpleNamespace:
    """What a panel knows in a window that shows ``scene``."""
    return SimpleNamespace(
        scene=scene,
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)),  # 0 without a window
        region=SimpleNamespace(width=280),
        window_manager=bpy.context.window_manager,
    )


def draw(cls: type, context: SimpleNamespace) -> list[str]:
    """The words, properties and operators that the panel ``cls`` draws, in order."""
    seen: list[str] = []
    cls.draw(SimpleNamespace(layout=Layout(seen)), context)
    return seen
