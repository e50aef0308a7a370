"""Previews and contact sheets are shown, and never end up in the artist's file."""

import bpy
import harness
import numpy as np

with harness.extension() as session:
    previews, job = harness.module("ui.previews"), harness.module("ui.job")
    png = harness.module("shot.png")
    path = harness.save_scene("shot.blend")
    # a JPEG of the engine is not needed for this: Blender looks at the content
    sheet = harness.SCRATCH / "sheet.png"
    rows = np.repeat(np.arange(2, dtype=np.uint8), 6)[:, None, None] * 8
    columns = np.repeat(np.arange(8, dtype=np.uint8), 10)[None, :, None]
    png.write_png(sheet, np.repeat((rows + columns) * 16, 3, axis=2).astype(np.uint8))
    previews.show_clip(job.Preview(sheet, 16))
    assert previews.has_clip()
    # frame 9 is the first of the second row
    for frame, value in ((0, 0), (7, 112), (8, 128), (15, 240)):
        picture = previews._icons[str(frame)]
        assert tuple(picture.image_size) == (10, 6)
        assert abs(picture.image_pixels_float[0] * 255 - value) < 1.5, frame
    # the artist's own image of that name stays theirs
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.open_mainfile(filepath=str(path))
    assert previews.CLIP not in bpy.data.images
    mine = bpy.data.images.new(previews.CLIP, 4, 4)
    mine.use_fake_user = True
    previews.show_clip(job.Preview(sheet, 16))
    assert tuple(mine.size) == (4, 4)
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.open_mainfile(filepath=str(path))
    assert [image.name for image in bpy.data.images if image.users] == [previews.CLIP]
    previews.forget()
    assert not previews.has_clip()
print("DONE")
