"""Frames to pictures through libavfilter: PyAV's own conversion differs from FFmpeg's by up to 115 of 255."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from av.filter import Graph
from av.video.frame import VideoFrame

from fiapx.media.picture import Picture
from fiapx.media.render import Rendering


class Renderer:
    """Renders the frames of one video, one by one, each as `rendering_of` says. Runs in the decoder child."""

    def __init__(self, rendering_of: Callable[[VideoFrame], Rendering]) -> None:
        self._rendering_of = rendering_of
        self._shape: tuple[object, ...] = ()
        self._graph = Graph()
        self._rendering: Rendering

    def __call__(self, frame: VideoFrame) -> Picture:
        shape = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if shape != self._shape:
            self._rendering = self._rendering_of(frame)
            self._shape, self._graph = shape, self._build(frame)
        self._graph.push(frame)
        try:
            picture = self._graph.pull()
        except BlockingIOError:  # a filter waits for the next frame, which is no neighbour of this one
            self._graph.push(None)
            picture = self._graph.pull()
            self._shape = ()
        assert isinstance(picture, VideoFrame)
        return self._rendering.from_frame(picture)

    def _build(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        graph.threads = 1
        node = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1)
        )
        for name, arguments in self._rendering.filters:
            following = graph.add(name, **arguments)
            node.link_to(following)
            node = following
        node.link_to(graph.add("buffersink"))
        graph.configure()
        return graph
