"""Videos hold the pictures that they were given."""

from __future__ import annotations

import sys
from pathlib import Path

import imageio.v2 as imageio
import pytest
from PIL import Image, ImageSequence

from zoo.errors import UsageError
from zoo.watching.video import check_video, open_video


@pytest.mark.parametrize(("ending", "speed"), [("gif", 20), ("mp4", 30)])
def test_pictures_come_back(ending: str, speed: int, tmp_path: Path) -> None:
    path = tmp_path / f"video.{ending}"
    check_video(path)
    with open_video(path) as add:
        for shade in (0, 200):
            add(Image.new("RGB", (64, 48), (shade, shade, shade)), shade == 200)
    with imageio.get_reader(path) as reader:
        frames = [frame[..., :3] for frame in reader]
    assert frames[0].shape == (48, 64, 3)
    assert frames[0].mean() == pytest.approx(0, abs=8)
    assert frames[-1].mean() == pytest.approx(200, abs=8)
    assert length_of(path, speed) == pytest.approx((2 + 0.8 * speed) / speed, abs=0.01)  # the last picture stays


def length_of(path: Path, speed: int) -> float:
    """Return how long a video takes, in seconds; a GIF has one long picture for several that are the same."""
    with imageio.get_reader(path) as reader:
        if path.suffix == ".mp4":
            return reader.count_frames() / speed
    with Image.open(path) as image:
        return sum(frame.info["duration"] for frame in ImageSequence.Iterator(image)) / 1000


def test_a_video_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def record() -> None:
        with open_video(tmp_path / "video.gif") as add:
            add(Image.new("RGB", (64, 48)), False)
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        record()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["video.avi", "video", "missing/video.gif"])
def test_what_cannot_be_written_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"`--video` (must end in \.mp4 or \.gif|needs the folder)"):
        check_video(tmp_path / name)


def test_without_ffmpeg_a_gif_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UsageError, match=r"`pip install imageio-ffmpeg`, or record a GIF: .*video\.gif"):
        check_video(tmp_path / "video.mp4")
    check_video(tmp_path / "video.gif")
