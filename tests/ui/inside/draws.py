"""Panels and preferences draw in every state, with names and icons that this Blender knows."""

import bpy
import harness
from drawing import ICONS, context_of, draw

with harness.extension() as session:
    panel, job = harness.module("ui.panel"), harness.module("ui.job")
    harness.save_scene("draws.blend")
    context = context_of(bpy.context.scene)
    settings = bpy.context.scene.animatic
    for item in settings.bl_rna.properties["guide"].enum_items:
        assert item.icon in ICONS, item.icon
    for cls in panel.CLASSES:
        assert cls.is_registered
        assert draw(cls, context)
    # with rows in every list, and what a preview of the guides has found
    bpy.ops.animatic.guide_frame_add()
    lists = harness.lists()
    for rows in (lists.takes, lists.shots):
        rows.add().name = "Wide"
    lists.shots[0].takes = 2
    report = harness.module("ui.guides_report")
    report.remember(
        context.scene,
        {"depth": {"near": 2.0, "far": 31.4159}, "guides": [], "keyframes": []},
        harness.SCRATCH,
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
    # the status bar, for whoever has the sidebar closed: also how it ended
    status_bar = harness.module("ui.status_bar")
    assert "Sampling 3 of 20" in draw(status_bar, context)
    for state, ended in (
        (job.State.IDLE, []),
        (job.State.DONE, ["Animatic: done"]),
        (job.State.CANCELLED, []),
        (job.State.FAILED, ["Animatic: failed, see the sidebar"]),
    ):
        session._session.status = job.Status(state)
        assert draw(status_bar, context) == ended, state
    session._session.status, session._session.total = job.Status(job.State.DONE), 3
    assert draw(status_bar, context) == ["Animatic: through with 3 shots, see the sidebar"]
    sentence = "There is no model called 'nothing': give the path of a folder."
    session.fail(sentence)
    assert sentence in " ".join(draw(main, context))
    bpy.context.scene.camera = None
    assert "No active camera" in draw(main, context)
print("DONE")
