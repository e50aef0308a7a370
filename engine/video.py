"""Frames to a video file."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from .errors import EngineError


def write_video(frames: np.ndarray, fps: Fraction, path: Path) -> None:
    """Write frames, uint8 [F, H, W, 3] in sRGB, as H.264 (yuv420p) in MP4 at exactly ``fps``.

    Sides must be even. The file gets its name only when it is complete, and is tagged as what it
    is (BT.709 primaries and matrix, sRGB transfer, limited range), since untagged video is shown
    in other colours by one player than by the next. Raises EngineError where it cannot be written.
    """
    count, height, width, _ = frames.shape
    if width % 2 or height % 2:
        raise EngineError(
            f"A video of {width}x{height} pixels cannot be written: H.264 needs even sides. "
            "Use a size that is a multiple of 8."
        )
    part = path.with_name(path.name + ".part")
    try:
        with av.open(part, "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": "16"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.time_base = stream.codec_context.time_base = 1 / fps
            stream.codec_context.color_range = ColorRange.MPEG
            stream.codec_context.colorspace = Colorspace.ITU709
            stream.codec_context.color_primaries = ColorPrimaries.BT709
            stream.codec_context.color_trc = ColorTrc.IEC61966_2_1
            for k in range(count):
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frames[k]), "rgb24")
                picture = picture.reformat(
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=ColorRange.MPEG,
                )
                picture.pts, picture.time_base = k, 1 / fps
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        os.replace(part, path)
    except (OSError, av.FFmpegError) as error:
        part.unlink(missing_ok=True)
        raise EngineError(
            f"The video {path} cannot be written ({error}). Check that the folder exists, is "
            "writable and has space left."
        ) from error
