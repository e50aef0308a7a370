"""Looks and quality levels are data with words for people; presets are Blender's own."""

from pathlib import Path

import bpy
import harness

with harness.extension():
    harness.save_scene("shot.blend")
    presets = harness.module("ui.presets")
    settings = bpy.context.scene.animatic
    for items in (presets.look_items(), presets.quality_items()):
        assert len(items) >= 3
        assert all(name and description for _, name, description, _ in items), items
    for look in (*presets.LOOKS, "none"):
        picture = harness.module("shot.png").read_png(presets.look_thumbnail(look))
        assert picture.shape[:2] == (128, 128)
        settings.look = look
        assert settings.look == look
    settings.look = "none"
    assert presets.with_look("none", "a cat", "") == ("a cat", "")
    prompt, negative = presets.with_look("film_noir", "a cat,", "")
    assert prompt.startswith("a cat, film noir"), prompt
    assert negative == presets.LOOKS["film_noir"].negative_prompt
    # a .blend keeps a look though others are added or removed: its number is its own
    numbers = {item[0]: item[3] for item in presets.look_items()}
    presets.LOOKS.pop("clay")
    assert all(numbers[item[0]] == item[3] for item in presets.look_items())

    settings.prompt, settings.look, settings.quality = "a cat", "fog", "final"
    settings.reference = "//pictures/fog.png"
    for name, scale in (("Ink", 0.5), ("ZoomIn", -1.0)):
        item = settings.loras.add()
        item.name, item.scale, item.enabled = name, scale, scale > 0
    assert bpy.ops.animatic.preset_add(name="Cats in Fog") == {"FINISHED"}
    assert settings.reference == "//pictures/fog.png"
    settings.prompt, settings.look, settings.quality = "a dog", "none", "draft"
    settings.loras.clear()
    settings.loras.add().name = "Oil"
    (file,) = Path(bpy.utils.user_resource("SCRIPTS", path="presets/animatic")).glob("*.py")
    bpy.ops.script.execute_preset(filepath=str(file), menu_idname="ANIMATIC_PT_presets")
    assert (settings.prompt, settings.look, settings.quality) == ("a cat", "fog", "final")
    # the list is the preset's alone, and its picture is found from other folders, too
    assert [(item.name, item.scale, item.enabled) for item in settings.loras] == [
        ("Ink", 0.5, True), ("ZoomIn", -1.0, False),
    ]  # fmt: skip
    assert settings.reference == str(harness.SCRATCH / "pictures" / "fog.png")
print("DONE")
