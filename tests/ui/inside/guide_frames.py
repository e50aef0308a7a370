"""The list of guide frames: filled, edited, undone, saved, and what of it a shot is held at."""

import bpy
import harness

with harness.extension():
    asked, keyframe_list = harness.module("ui.asked"), harness.module("ui.keyframe_list")
    ops = bpy.ops.animatic

    def frames() -> list[int]:
        return [item.frame for item in bpy.context.scene.animatic.guide_frames]

    def held(shot: int = 0, suited: str | None = None) -> str:
        scene = bpy.context.scene
        return keyframe_list.keyframes_text(scene, asked.shots_of(scene)[shot], suited)

    harness.save_scene("shot.blend")
    scene = bpy.context.scene
    assert held() == "camera"
    # as the model's card has it, where nobody chose frames; unknown of a model that is not here
    assert asked.suited_keyframes(scene.animatic) == "all"
    assert held(suited="all") == "all"
    usual, scene.animatic.model = scene.animatic.model, "elsewhere"
    assert asked.suited_keyframes(scene.animatic) is None
    scene.animatic.model = usual
    scene.camera.animation_data_clear()
    assert held() == "1,24"  # nothing is keyed: both ends

    # a camera that turns back at frame 13 is held there; the playhead stays where it was
    for frame, x in ((1, 0.0), (13, 6.0), (24, 0.0)):
        scene.camera.location.x = x
        scene.camera.keyframe_insert("location", index=0, frame=frame)
    scene.frame_set(5)
    assert ops.guide_frames_suggest() == {"FINISHED"}
    assert {1, 13} <= set(frames()), frames()
    assert scene.frame_current == 5
    # a box that stops while the camera stands still is seen, too
    box = next(ob for ob in scene.objects if ob.type == "MESH")
    camera, scene.camera = scene.camera, scene.camera.copy()
    scene.collection.objects.link(scene.camera)
    scene.camera.animation_data_clear()
    for frame, x in ((1, 0.0), (10, 4.0), (24, 4.0)):
        box.location.x = x
        box.keyframe_insert("location", index=0, frame=frame)
    ops.guide_frames_suggest()
    assert 10 in frames(), frames()
    bpy.data.objects.remove(scene.camera)
    scene.camera = camera
    ops.guide_frames_fill(source="camera")
    assert frames() == [1, 13, 24]
    bpy.ops.object.select_all(action="DESELECT")
    words = harness.refusal("guide_frames_fill", source="selected")
    assert "selected objects have no keys" in words
    assert frames() == [1, 13, 24]

    # a click goes there; a strength and a place in the order are kept; a frame is added once
    settings = scene.animatic
    settings.guide_frames_index = 1
    assert scene.frame_current == 13
    settings.guide_frames[1].strength = 0.25
    settings.guide_frames[1].frame = 30
    assert [item.frame for item in settings.guide_frames] == [1, 30, 24], "a drag holds its row"
    assert held() == "1@1,24@1", held()
    settings.guide_frames[1].frame = 13
    for _ in range(2):
        ops.guide_frame_add()
    assert frames() == [1, 13, 24]
    settings.guide_frames[2].enabled = False
    assert held() == "1@1,13@0.25"
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.open_mainfile(filepath=bpy.data.filepath)
    assert held() == "1@1,13@0.25"

    # undone like anything else
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[0]):
        bpy.ops.ed.undo_push(message="before")
        ops.guide_frames_clear()
        bpy.ops.ed.undo_push(message="cleared")
        assert not frames()
        bpy.ops.ed.undo()
    assert frames() == [1, 13, 24]

    # what is looked through is no camera: a sentence from every button that needs one
    scene = bpy.context.scene
    camera, lamp = scene.camera, bpy.data.objects.new("Lamp", bpy.data.lights.new("Lamp", "POINT"))
    scene.camera = lamp
    buttons = {"generate": {}, "generate_all": {}, "preview_guides": {}, "lora_suggest": {}}
    buttons |= {"guide_frames_suggest": {}, "guide_frames_fill": {"source": "camera"}}
    scene.animatic.prompt = "a cube"
    for button, options in buttons.items():
        words = harness.refusal(button, **options)
        assert "'Lamp' films the shot but is no camera: select a camera" in words, words
    marker = scene.timeline_markers.new("Through the Lamp", frame=1)
    marker.camera, scene.camera = lamp, camera
    assert "bind a camera to its marker" in harness.refusal("guide_frames_suggest")
    scene.timeline_markers.clear()
    assert frames() == [1, 13, 24]

    # each shot has its own; filling one leaves the other's
    scene = bpy.context.scene
    for name, frame in (("Wide", 1), ("Close", 13)):
        scene.timeline_markers.new(name, frame=frame).camera = scene.camera
    scene.frame_set(20)
    ops.guide_frames_fill(source="every", step=6)
    assert frames() == [1, 13, 19]
    assert held(0) == "1@1"
    assert held(1) == "13@0.25,19@1"
print("DONE")
