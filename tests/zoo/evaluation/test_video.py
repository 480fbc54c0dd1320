"""Videos contain the given frames, and appear completely or not at all."""

import contextlib
import gc
import resource
import sys

import imageio.v2 as imageio
import numpy as np
import pytest

from agents.common.files import WriteError
from tests.zoo.outcomes import refuses
from zoo.evaluation.video import check_video, open_video


# a GIF's duration is that of one frame, in milliseconds; an MP4's is that of all frames, in seconds
@pytest.mark.parametrize(("ending", "duration"), [("gif", 1000 / 20), ("mp4", 2 / 30)])
def test_pictures_come_back(ending, duration, tmp_path):
    path = tmp_path / f"video.{ending}"
    check_video(path)
    shades = (0, 200)
    record(path, [np.full((48, 64, 3), shade, np.uint8) for shade in shades])
    with imageio.get_reader(path) as reader:
        frames = [frame[..., :3] for frame in reader]
        assert reader.get_meta_data()["duration"] == pytest.approx(duration, abs=0.01)
    assert frames[0].shape == (48, 64, 3)
    # MP4 and GIF palettes are lossy
    assert [frame.mean() for frame in frames] == pytest.approx(shades, abs=8)


@contextlib.contextmanager
def small_files():
    """Limit files to 1,000 bytes, to act like a full disk; pytest's own output may be a larger file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def record(path, frames):
    with open_video(path) as add:
        for frame in frames:
            add(frame)


@pytest.mark.parametrize(
    # a writer that writes again on deletion prints a traceback, which pytest reports as a warning
    "ending",
    [pytest.param("gif", marks=pytest.mark.filterwarnings("error")), "mp4"],
)
def test_half_a_video_does_not_appear(ending, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda _: None)
        gc.collect()  # files that earlier tests left open are not reported here
    frames = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), np.uint8)
    with small_files():
        with pytest.raises(WriteError, match="could not be written"):
            record(tmp_path / f"video.{ending}", frames)
        gc.collect()
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["video", "missing/video.gif"])
def test_what_cannot_be_written_is_refused(name, tmp_path):
    with refuses(r"must end in \.mp4 or \.gif|in a folder that exists and can be written to"):
        check_video(tmp_path / name)


def test_without_ffmpeg_a_gif_is_offered(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with refuses(r"imageio-ffmpeg`, or record a GIF: .*video\.gif"):
        check_video(tmp_path / "video.mp4")
    check_video(tmp_path / "video.gif")


def test_what_is_no_picture_is_refused(tmp_path):
    with refuses("got NoneType"), open_video(tmp_path / "video.gif") as add:
        add(None)
    assert not (tmp_path / "video.gif").exists()
