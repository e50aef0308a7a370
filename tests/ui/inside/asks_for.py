"""What the fields of the panel come to in a run, and come back from a take."""

import json
import math
from dataclasses import replace

import bpy
import harness

with harness.extension():
    asked, request = harness.module("ui.asked"), harness.module("shot.request")
    path = harness.save_scene("shot.blend")
    scene = bpy.context.scene
    settings, ops = scene.animatic, bpy.ops.animatic

    def run() -> object:
        targets = [asked.current_target(scene)]
        return asked.generate_settings(bpy.context, targets, path)[0]

    # By itself the panel asks for nothing that a request has no need to name.
    plain = run()
    assert plain.steering == request.UNSTEERED
    assert plain.passes.sampling() == plain.long_clip.sampling(16) == {}
    assert plain.pictures.reference is plain.pictures.first is None
    assert (plain.near, plain.far, plain.crease, plain.lines_of) == (None,) * 4
    assert (plain.in_between, plain.deflicker) == (False, None)
    assert plain.line_thickness == 1.0

    # prompts at guide frames take the style's words, too; a frame that is off changes nothing
    ops.guide_frames_fill(source="every", step=12)
    settings.guide_frames[0].prompt, settings.guide_frames[1].prompt = " ", "dusk"
    settings.look = "fog"
    (frame, text), *others = run().steering.prompts
    assert (frame, others) == (13, [])
    assert text.startswith("dusk, ")
    settings.guide_frames[1].enabled = False
    assert run().steering.prompts == ()
    settings.guide_frames[1].enabled = True
    ops.guide_frames_fill(source="every", step=6)
    assert [item.prompt for item in settings.guide_frames] == [" ", "", "dusk", ""]
    settings.look = "none"

    # near and far begin with what the guides have found
    report = harness.module("ui.guides_report")
    depth = {"near": 2.5, "far": 40.0}
    report.remember(scene, {"depth": depth, "guides": [], "keyframes": []}, harness.SCRATCH)
    settings.use_near = settings.use_far = settings.use_crease = True
    assert (settings.near, settings.far) == (2.5, 40.0)
    settings.near, settings.crease = 3.0, math.radians(120)
    settings.lines_of = scene.collection.children[0] if scene.collection.children else None
    settings.blur, settings.temporal, settings.guide_end = 2, 1.5, 0.75
    settings.guide_start, settings.thickness = 0.125, 2.0
    # what is said by hand begins at the model's own
    settings.use_steps = settings.use_guidance = settings.use_guidance_end = True
    mini = (settings.steps, settings.guidance, settings.guidance_end)
    assert mini == (10, 2.0, 0.5), mini  # Steadiness asks for guidance
    settings.guidance_end = 0.25
    settings.use_guidance_end, settings.use_steps, settings.use_guidance = False, False, False
    settings.use_guidance_end = True
    settings.use_context, settings.context_length, settings.context_overlap = True, 8, 20
    settings.free_noise, settings.use_schedule, settings.schedule = True, True, "dpm"
    settings.in_between, settings.loop, settings.deflicker = True, True, "ON"
    settings.use_upscale, settings.upscale = True, 2.0
    settings.reference = "//a.jpg"
    for name, enabled in (("Ink", True), ("ZoomIn", False)):
        item = settings.loras.add()
        item.name, item.enabled, item.scale = name, enabled, 0.5
    full = run()
    assert (full.near, full.far, round(full.crease, 3)) == (3.0, 40.0, 120.0)
    assert (full.in_between, full.deflicker) == (True, True)
    assert full.pictures.reference == harness.SCRATCH / "a.jpg"
    assert full.steering.loras == (("Ink", 0.5),)
    assert (full.steering.blur, full.steering.temporal, full.steering.end) == (2, 1.5, 0.75)
    assert (full.passes.upscale[0], full.guidance_end) == (2.0, 0.25)
    assert full.long_clip.loop
    assert full.long_clip.context == (8, 7, "uniform")  # neighbours share less than a window
    assert (full.passes.schedule, full.long_clip.free_noise, full.line_thickness) == (
        "dpm", True, 2.0,
    )  # fmt: skip
    assert asked.shot_timing(scene, asked.current_shot(scene)).frames == 8  # the shot's own length
    scene.frame_end = 240
    assert asked.shot_timing(scene, asked.current_shot(scene)).frames == 80  # more than 16
    scene.frame_end = 24
    settings.guide = "lineart"
    run().steering.check("lineart")  # what is for depth alone is not asked for

    # a take brings all of it back
    clip = {"frames": 8, "fps": "8", "width": 64, "height": 64}
    shot = {
        "name": "Scene", "scene": "Scene", "camera": "Camera", "start": 1, "end": 24,
        "scene_fps": "24", "film": {"width": 16, "height": 16}, "clip": clip, "note": "",
        "frame_map": [k // 3 for k in range(24)], "in_between": True,
        "guide_settings": {"near": 3.0, "crease": 120.0, "line_thickness": 2.0},
    }  # fmt: skip
    made = request.build_request(
        {
            "shot": shot,
            "guides": [{"guide": "depth", "clip_frame": k, "sha256": "a" * 64} for k in (0, 4)],
            "keyframes": [{"asked": str(1 + 3 * k), "clip_frame": k, "kept": True} for k in (0, 4)],
            "depth": depth,
        },
        prompt="a street", negative_prompt="", checkpoint={"name": "blockout-mini", "sha256": None},
        seeds=[5], steps=20, guidance=3.0, strength=1.0,
        steering=replace(full.steering, guidance_end=0.25),
    )  # fmt: skip
    made["sampling"] |= full.long_clip.sampling(8) | full.passes.sampling()
    made["image_prompt"] = {"sha256": "b" * 64, "scale": 0.25}
    folder = harness.SCRATCH / "animatic" / "shot_001"
    (folder / "guides").mkdir(parents=True)
    (folder / "guides" / "reference.jpg").write_bytes(b"")
    (folder / "guides" / "depth_0005.png").write_bytes(b"")
    (folder / "request.json").write_bytes(request.canonical_json(made))
    take = {"schema": 1, "seed": 5, "request_sha256": request.request_hash(made)}
    (folder / "take.json").write_text(json.dumps(take))
    ops.takes_refresh()
    settings.loras.clear()
    settings.guide_frames.clear()
    for name in (
        *("blur", "temporal", "guide_start", "guide_end", "in_between", "loop", "use_context"),
        *("context_length", "free_noise", "use_schedule", "schedule", "use_upscale", "upscale"),
        *("use_near", "near", "use_crease", "crease", "thickness", "use_guidance_end"),
    ):
        settings.property_unset(name)
    settings.use_far = True
    assert ops.take_settings() == {"FINISHED"}
    assert (settings.blur, settings.temporal, settings.guide_end) == (2, 1.5, 0.75)
    assert (settings.in_between, settings.loop, settings.use_upscale) == (True, True, True)
    assert (settings.upscale, settings.reference_scale) == (2.0, 0.25)
    assert settings.deflicker == "OFF"  # the model would be steadied by itself
    assert (settings.guide_start, settings.use_schedule, settings.schedule) == (0.125, True, "dpm")
    assert (settings.use_context, settings.context_length, settings.context_overlap) == (True, 8, 7)
    assert (settings.free_noise, settings.encoder) == (True, "usual")
    assert (settings.use_near, settings.near, settings.use_far) == (True, 3.0, False)
    assert (settings.use_crease, settings.thickness) == (True, 2.0)
    again = run()
    assert (again.steering, again.long_clip, again.passes, again.guidance_end) == (
        full.steering, full.long_clip, full.passes, 0.25,
    )  # fmt: skip

    # the guide frames of the list show what the take was held by, also after a restart
    # (in the background Blender gives no icons)
    previews = harness.module("ui.previews")
    previews.thumbnail, thumbnail = (lambda file: int(file.stem[-4:])), previews.thumbnail
    ops.takes_refresh()
    assert [report.picture(scene, frame) for frame in (1, 12, 13, 18)] == [0, 5, 5, 0]
    previews.thumbnail = thumbnail
    assert settings.reference == str((folder / "guides" / "reference.jpg").resolve())
    assert [(item.name, item.scale) for item in settings.loras] == [("Ink", 0.5)]
    assert [(item.frame, item.prompt) for item in settings.guide_frames] == [(1, ""), (13, "dusk")]

    # and is refused where the panel would leave something out
    made["sampling"]["attention"] = {"kind": "window"}
    (folder / "request.json").write_bytes(request.canonical_json(made))
    ops.takes_refresh()
    settings.prompt = "mine"
    assert "no field for (attention)" in harness.refusal("take_settings")
    assert settings.prompt == "mine"

    # which MotionLoRA fits the camera
    motion = harness.module("ui.camera_motion")

    def move(change) -> str | None:
        camera = scene.camera
        camera.animation_data_clear()
        for frame in (1, 24):
            camera.location, camera.rotation_euler = (0, -8, 2), (math.pi / 2, 0, 0)
            camera.data.lens = 50
            if frame == 24:
                change(camera)
            camera.keyframe_insert("location", frame=frame)
            camera.keyframe_insert("rotation_euler", frame=frame)
        return motion.camera_move(scene, 1, 24)

    def turn(axis: int, degrees: float):
        return lambda camera: setattr(
            camera, "rotation_euler", [
                angle + math.radians(degrees) * (k == axis)
                for k, angle in enumerate(camera.rotation_euler)
            ],
        )  # fmt: skip

    def go(*way: float):
        return lambda camera: setattr(camera, "location", [
            place + step for place, step in zip(camera.location, way, strict=True)
        ])  # fmt: skip

    scene.frame_set(7)
    found = [move(each) for each in (go(0, 3, 0.5), go(0, -3, 0), go(2, 0, 0), go(0, 0, 2))]
    assert found == ["zoomin", "zoomout", "panright", "tiltup"], found
    found = [move(each) for each in (turn(2, 30), turn(0, -30), turn(1, 30), turn(2, 0))]
    assert found == ["panleft", "tiltdown", "rollingclockwise", None], found
    assert scene.frame_current == 7

    # and whether there is one
    loras = harness.SCRATCH / "models" / "loras"
    loras.mkdir(parents=True)
    preferences = bpy.context.preferences.addons[harness.MODULE].preferences
    model = loras.parent / "own"
    model.mkdir()
    card = harness.module("link.catalogue").PRESETS / "blockout-mini" / "animatic.json"
    (model / "animatic.json").write_bytes(card.read_bytes())
    settings.model = str(model)
    estimate = harness.module("ui.estimate")
    settings.encoder = "image"
    estimate.refresh()
    assert (run().steering.encoder, estimate.current(scene).encoders) == (None, False)
    told = json.loads(card.read_text())
    told["image_guides"] = {"depth": "controlnet"}
    (model / "animatic.json").write_text(json.dumps(told))
    (model / "controlnet").mkdir()
    estimate.refresh(anew=True)
    assert (run().steering.encoder, estimate.current(scene).encoders) == ("image", True)
    move(go(0, 3, 0))
    settings.loras.clear()
    assert ops.lora_suggest() == {"CANCELLED"}
    (loras / "v2_lora_ZoomIn.ckpt").write_bytes(b"")
    assert ops.lora_suggest() == {"FINISHED"}
    assert [item.name for item in settings.loras] == ["v2_lora_ZoomIn"]

    # the timeline shows what is in the list, where there is a camera
    timeline = harness.module("ui.timeline")
    settings.guide_frames[1].enabled = False
    timeline.refresh()
    assert timeline.shown_in(scene) == ((1, True), (13, False))
    scene.camera = None
    timeline.refresh()
    assert timeline.shown_in(scene) == ()
print("DONE")
