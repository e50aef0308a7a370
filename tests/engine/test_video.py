"""The video holds the frames, at the exact rate, in the right colours."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from animatic.engine.errors import EngineError
from animatic.engine.video import write_video
from av.video.reformatter import Colorspace


@pytest.fixture
def frames() -> np.ndarray:
    """Eight frames of flat colour patches, the first with strong ones, that drift."""
    clip = np.zeros((8, 48, 64, 3), np.uint8)
    clip[:, :24, :32], clip[:, :24, 32:] = (220, 40, 30), (40, 200, 60)
    clip[:, 24:, :32], clip[:, 24:, 32:] = (30, 60, 210), (235, 235, 235)
    clip[1:] = clip[1:] // 2
    return clip


@pytest.mark.parametrize("fps", [Fraction(8), Fraction(24000, 1001), Fraction(25, 3)])
def test_count_rate_and_colours_are_read_back(
    frames: np.ndarray, fps: Fraction, tmp_path: Path
) -> None:
    write_video(frames, fps, tmp_path / "video.mp4")
    with av.open(tmp_path / "video.mp4") as container:
        stream = container.streams.video[0]
        read = list(container.decode(stream))
        context = stream.codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert stream.average_rate == fps
        assert [frame.pts * frame.time_base for frame in read] == [k / fps for k in range(8)]
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    assert tags == (1, 1, 13, 1)
    first = read[0].reformat(format="rgb24", src_colorspace=Colorspace.ITU709).to_ndarray()
    for y, x in ((12, 16), (12, 48), (36, 16), (36, 48)):
        assert np.abs(first[y, x].astype(int) - frames[0, y, x]).max() <= 4
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


def test_a_video_that_cannot_be_written_is_named(frames: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"absent/video\.mp4 cannot be written"):
        write_video(frames, Fraction(8), tmp_path / "absent" / "video.mp4")
