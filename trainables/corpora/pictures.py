"""Reading pictures: the face in a film at 25 frames a second, by exact time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.batch import FRAME_RATE
from trainables.corpora.media import TOLERANCE_S, check_range, decoded_from, opened, origin_of
from trainables.errors import MediaError

Box = tuple[int, int, int, int]
"""x, y, width and height in pixels."""


def read_frames(
    path: Path,
    size: int,
    start_s: float = 0.0,
    end_s: float | None = None,
    *,
    crop: Sequence[int] | None = None,
    crop_of: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Return the pictures of a film, or of a range of it, ``(frames, size, size, 3)`` in RGB.

    Picture k is the one that is shown at ``start_s + k / 25``, whatever rate the film has; so frame k covers the same
    40 ms as the sound from ``start_s`` does.

    Args:
        path: a film of any format that FFmpeg reads.
        size: height and width of what is returned.
        start_s: where the range begins, seconds.
        end_s: where it ends; None is the end of the film.
        crop: x, y, width and height of what to keep of each picture; None is the largest square in the middle.
        crop_of: width and height of the picture that the crop was measured in; it is scaled with the picture. None is
            the film's own.

    Raises:
        MediaError: the file cannot be read, has no picture, ends before the range does, or the crop lies outside.
    """
    with opened(path) as container:
        if not container.streams.video:
            raise MediaError(f"{path} has no picture")
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"  # a process for every core decodes already
        width, height = stream.codec_context.width, stream.codec_context.height
        box = _box(_scaled(crop, crop_of, width, height), width, height, path)
        scale = _Scaler(box, size)
        try:
            shown = list(_shown(container, stream, start_s, end_s, scale, path))
        except (OSError, ValueError) as failure:
            raise MediaError(f"{path} cannot be decoded: {' '.join(str(failure).split())}") from failure
    if not shown:
        raise MediaError(f"{path} has no picture in the range that begins at {start_s:.3f} s")
    return np.stack(shown)


def _shown(
    container: Any,  # noqa: ANN401  (PyAV)
    stream: Any,  # noqa: ANN401
    start_s: float,
    end_s: float | None,
    scale: "_Scaler",
    path: Path,
) -> Iterator[NDArray[np.uint8]]:
    """Yield what is on the screen at each moment."""
    origin, last, last_s, number = origin_of(container), None, 0.0, 0
    for frame in decoded_from(container, stream, start_s):
        time_s = float(frame.time or 0.0) - origin
        while (moment := start_s + number / FRAME_RATE) < time_s - 1e-6 and not _over(moment, end_s):
            yield scale(frame if last is None else last)
            number += 1
        if _over(start_s + number / FRAME_RATE, end_s):
            return
        last, last_s = frame, time_s
    if last is None:
        raise MediaError(f"{path} has no picture at or after {start_s:.3f} s")
    length_s = float(1 / stream.average_rate) if stream.average_rate else TOLERANCE_S
    check_range(path, start_s, end_s, last_s + length_s)
    stop_s = last_s + length_s if end_s is None else end_s
    while not _over(start_s + number / FRAME_RATE, stop_s):
        yield scale(last)
        number += 1


def _over(moment: float, end_s: float | None) -> bool:
    return end_s is not None and moment >= end_s - 1e-6


def _scaled(
    crop: Sequence[int] | None, crop_of: tuple[int, int] | None, width: int, height: int
) -> Sequence[int] | None:
    """Return the box in a picture of another size.

    >>> _scaled((438, 128, 224, 224), (720, 480), 360, 240)
    [219, 64, 112, 112]
    """
    if crop is None or crop_of is None or crop_of == (width, height):
        return crop
    scales = (width / crop_of[0], height / crop_of[1]) * 2
    return [int(value * scale) for value, scale in zip(crop, scales, strict=True)]


def _box(crop: Sequence[int] | None, width: int, height: int, path: Path) -> Box:
    if crop is None:
        side = min(width, height)
        return (width - side) // 2, (height - side) // 2, side, side
    x, y, across, down = (int(value) for value in crop)
    if x < 0 or y < 0 or across < 1 or down < 1 or x + across > width or y + down > height:
        raise MediaError(f"{path}: the crop {(x, y, across, down)} lies outside the picture of {width} x {height}")
    return x, y, across, down


class _Scaler:
    """Cuts a box out of pictures and scales it, in FFmpeg; a picture that is shown twice is scaled once."""

    def __init__(self, box: Box, size: int) -> None:
        self._box, self._size = box, size
        self._graph: Any = None
        self._last: tuple[Any, NDArray[np.uint8]] | None = None

    def __call__(self, frame: Any) -> NDArray[np.uint8]:  # noqa: ANN401
        """Return the box as ``(size, size, 3)``."""
        if self._last is None or self._last[0] is not frame:
            if self._graph is None:
                self._graph = self._build(frame)
            self._graph.push(frame)
            self._last = (frame, self._graph.pull().to_ndarray(format="rgb24"))
        return self._last[1]

    def _build(self, frame: Any) -> Any:  # noqa: ANN401
        import av.filter

        x, y, width, height = self._box
        graph = av.filter.Graph()
        graph.link_nodes(
            graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, name="in", time_base=frame.time_base
            ),
            graph.add("crop", f"{width}:{height}:{x}:{y}:exact=1"),
            graph.add("scale", f"{self._size}:{self._size}:flags=area"),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ).configure()
        return graph
