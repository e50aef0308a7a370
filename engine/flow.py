"""Optical flow between a take's frames: motion where the scene tells none.

``python -m animatic.engine.flow FRAMES OUT`` measures it between each two frames that follow each
other in the folder FRAMES and writes OUT/0001.png for the first two, and so on: 16-bit PNG of four
channels, the way from each pixel of the earlier frame to the later one in x and y, and from each
pixel of the later one to the earlier, in 1/32 pixels around 32768.
Source: dense inverse search (Kroeger et al. 2016), OpenCV's ``DISOpticalFlow``.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

STEPS, ZERO = 32, 32768
# The search begins with pictures shrunk to some 8 pixels: smaller frames are enlarged before.
_LEAST_SIDE = 256


def measure(earlier: NDArray[np.uint8], later: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The flow between two frames uint8 [H, W, 3]: uint16 [H, W, 4], as the module says."""
    height, width = earlier.shape[:2]
    scale = max(1, -(-_LEAST_SIDE // min(height, width)))
    size = (scale * width, scale * height)
    gray = [
        cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_CUBIC)
        for frame in (earlier, later)
    ]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    both = (gray[0], gray[1]), (gray[1], gray[0])
    ways = [search.calc(*pair, None) for pair in both]  # type: ignore[call-overload]
    small = [cv2.resize(way, (width, height), interpolation=cv2.INTER_AREA) for way in ways]
    flow = np.rint(np.concatenate(small, axis=-1) / scale * STEPS) + ZERO
    return flow.clip(0, 65535).astype(np.uint16)


def main(arguments: list[str] | None = None) -> int:
    """Measure the flow of a folder of frames."""
    parser = argparse.ArgumentParser(prog="animatic.engine.flow", description=__doc__)
    parser.add_argument("frames", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)  # the sums of several would come in any order
    options.out.mkdir(parents=True, exist_ok=True)
    earlier = None
    for number, path in enumerate(sorted(options.frames.glob("*.png"))):
        stored = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if stored is None:
            print(f"{path} cannot be read as a picture.", file=sys.stderr)
            return 1
        later = np.asarray(cv2.cvtColor(stored, cv2.COLOR_BGR2RGB), np.uint8)
        if earlier is not None:
            # OpenCV counts a file's colours from blue.
            flow = measure(earlier, later)[..., (2, 1, 0, 3)]
            if not cv2.imwrite(str(options.out / f"{number:04d}.png"), flow):
                print(f"{options.out} cannot be written.", file=sys.stderr)
                return 1
        earlier = later
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
