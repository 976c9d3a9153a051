"""A camera gives every frame with its time, and says where a damaged video breaks off."""

from __future__ import annotations

import os
import struct
import sys
from datetime import UTC, datetime, timedelta

import av
import numpy as np
import pytest
from PIL import Image

import nearsight as ns

RATE = 10
NOON = datetime(2026, 5, 1, 12)


def film(path, frames=30, *, size_wh=(64, 48), rate=RATE, codec="mpeg4", **metadata):
    """Write a video whose frames are told apart by their brightness, bright in the left half."""
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata)
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size_wh
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 1
        for index in range(frames):
            pixels = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
            pixels[:, : size_wh[0] // 2] = 30 + 7 * (index % 30)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def brightness(frame) -> int:
    return round((float(frame.pixels[:, : frame.pixels.shape[1] // 2 - 4].mean()) - 30) / 7)


@pytest.fixture
def clip(tmp_path):
    return film(tmp_path / "gate.mp4")


def test_a_video_gives_every_frame_once_in_order_with_its_time(clip) -> None:
    frames = list(ns.Camera(clip, start=NOON))

    assert [frame.index for frame in frames] == list(range(30))
    assert [brightness(frame) for frame in frames] == list(range(30))
    assert [frame.captured_at for frame in frames] == [NOON + timedelta(seconds=index / RATE) for index in range(30)]
    assert {frame.camera for frame in frames} == {"gate"}
    assert (frames[0].pixels.dtype, frames[0].pixels.shape, frames[0].size_wh) == (np.uint8, (48, 64, 3), (64, 48))


@pytest.mark.parametrize(
    ("fps", "indices"),
    [(10, list(range(30))), (100, list(range(30))), (5, list(range(0, 30, 2))), (1, [0, 10, 20]), (0.5, [0, 20]),
     (4, [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28])],
)  # fmt: skip
def test_fps_leaves_frames_out_and_keeps_their_numbers(clip, fps, indices) -> None:
    frames = list(ns.Camera(clip, fps=fps))

    assert [frame.index for frame in frames] == indices
    assert [brightness(frame) for frame in frames] == indices


def test_a_camera_can_be_read_again_and_only_once_at_a_time(clip) -> None:
    with ns.Camera(clip, name="gate-3") as camera:
        first = iter(camera)
        next(first)
        assert len(list(camera)) == 30
        assert list(first) == []

    with pytest.raises(ns.InputError, match="gate-3 is closed"):
        iter(camera)


def test_without_a_start_the_video_says_when_it_was_taken(tmp_path) -> None:
    path = film(tmp_path / "a.mp4", creation_time="2026-03-04T05:06:07.000000Z")

    assert next(iter(ns.Camera(path))).captured_at == datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def test_a_video_without_a_recording_time_ended_when_its_file_was_written(clip) -> None:
    written = datetime(2026, 5, 1, 10, 0, 3, tzinfo=UTC)
    os.utime(clip, (written.timestamp(), written.timestamp()))

    frames = list(ns.Camera(clip))

    assert frames[0].captured_at == written - timedelta(seconds=3)
    assert frames[0].captured_at.utcoffset() is not None


def test_a_start_with_a_zone_keeps_it(clip) -> None:
    first = next(iter(ns.Camera(clip, start="2026-05-01T18:00:00+08:00")))

    assert first.captured_at.isoformat() == "2026-05-01T18:00:00+08:00"


def test_a_film_of_a_turned_telephone_stands_upright(clip) -> None:
    content = bytearray(clip.read_bytes())
    # The display matrix stands 40 bytes after the version of the track's header box. Source: ISO 14496-12, 8.3.2;
    # (a, b, c, d) = (0, 1, -1, 0) turns clockwise: right becomes down.
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    turned = clip.with_name("turned.mp4")
    turned.write_bytes(content)

    plain, upright = (list(ns.Camera(path))[9].pixels for path in (clip, turned))

    assert np.array_equal(upright, np.rot90(plain, -1))
    assert upright[:24].mean() > upright[40:].mean() + 50, "the left half is on top"


def drained(path, into: list[int]) -> None:
    for frame in ns.Camera(path):
        into.append(frame.index)  # noqa: PERF401  (what came before the fault must stay)


def readable(path) -> tuple[int, str]:
    came: list[int] = []
    with pytest.raises(ns.CameraError) as caught:
        drained(path, came)
    assert came == list(range(len(came)))
    return len(came), str(caught.value)


def test_a_video_damaged_in_the_middle_gives_the_frames_before_and_then_the_fault(tmp_path) -> None:
    path = film(tmp_path / "a.mp4", frames=60, codec="libx264", size_wh=(128, 96))
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat")
    size = content.index(b"moov") - start
    content[start + size // 2 : start + size * 6 // 10] = bytes(size * 6 // 10 - size // 2)
    path.write_bytes(content)

    count, message = readable(path)

    assert 10 < count < 50
    assert f"up to frame {count} ({(count - 1) / RATE:.1f} s)" in message
    assert "damaged" in message
    assert "\n" not in message


def test_a_video_cut_short_says_so_instead_of_ending_early(tmp_path) -> None:
    path = tmp_path / "a.mp4"
    with (
        av.open(str(film(tmp_path / "b.mp4", frames=60))) as source,
        av.open(str(path), "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2])

    count, message = readable(path)

    assert 10 < count < 50
    assert "it ends there, but says it lasts 6.0 s" in message or "damaged" in message


def test_what_is_no_video_is_refused_in_one_line(tmp_path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a film", encoding="utf-8")
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    empty = tmp_path / "empty"
    empty.mkdir()

    for path, reason in (
        (text, "is no video file that can be read"),
        (sound, "holds no video stream, only audio"),
        (empty, "no pictures in"),
        (tmp_path / "absent.mp4", "no video file or folder of pictures at"),
    ):
        with pytest.raises(ns.InputError, match=reason) as caught:
            ns.Camera(path)
        assert "\n" not in str(caught.value)


def test_an_address_is_refused_without_repeating_its_password() -> None:
    with pytest.raises(ns.InputError, match="not read in this version") as caught:
        ns.Camera("rtsp://user:secret@192.0.2.1/stream")

    assert "secret" not in str(caught.value)


def test_a_playlist_cannot_make_it_open_another_address(tmp_path) -> None:
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n", encoding="utf-8"
    )

    with pytest.raises((ns.InputError, ns.CameraError)):
        list(ns.Camera(playlist))


@pytest.mark.parametrize(
    "wrong", [{"fps": 0}, {"fps": -1}, {"fps": float("nan")}, {"fps": "fast"}, {"start": "noon"}, {"name": " "},
              {"start": "9999-12-31T23:59:59"}, {"start": datetime(1, 1, 1)}]
)  # fmt: skip
def test_arguments_that_make_no_sense_are_refused(clip, wrong) -> None:
    with pytest.raises(ns.InputError, match=f"{next(iter(wrong))}="):
        ns.Camera(clip, **wrong)


def test_without_pyav_the_line_says_how_to_get_it_and_folders_still_work(clip, tmp_path, monkeypatch, photos) -> None:
    monkeypatch.setitem(sys.modules, "av", None)

    with pytest.raises(ns.InputError, match=r'pip install "nearsight\[video\]"'):
        ns.Camera(clip)
    assert len(list(ns.Camera(photos))) == 8


# ---------------------------------------------------------------------------------------------------------------------
# Folders of pictures.


def photograph(path, level, taken=None):
    exif = Image.Exif()
    exif[0x0110] = "a camera"
    if taken is not None:
        exif.get_ifd(0x8769)[0x9003] = taken
    Image.new("RGB", (8, 6), (level, level, level)).save(path, exif=exif)


def test_pictures_with_times_come_in_the_order_of_their_times(tmp_path) -> None:
    for name, level, taken in (
        ("a", 30, "2026:05:01 12:00:09"),
        ("b", 10, "2026:05:01 12:00:00"),
        ("c", 20, "2026:05:01 12:00:04"),
    ):
        photograph(tmp_path / f"{name}.png", level, taken)

    frames = list(ns.Camera(tmp_path, name="wild"))

    assert [int(frame.pixels[0, 0, 0]) for frame in frames] == [10, 20, 30]
    assert [frame.captured_at for frame in frames] == [NOON, NOON + timedelta(seconds=4), NOON + timedelta(seconds=9)]
    assert [frame.index for frame in ns.Camera(tmp_path, fps=0.2)] == [0, 2]
    assert next(iter(ns.Camera(tmp_path, start="2020-01-01"))).captured_at == datetime(2020, 1, 1)


def test_pictures_without_times_come_by_name_at_the_given_rate(tmp_path) -> None:
    for place, name in enumerate(("c", "a", "b")):
        photograph(tmp_path / f"{name}.png", 10 * place)
    os.utime(tmp_path / "b.png", (1_700_000_000, 1_700_000_000))

    frames = list(ns.Camera(tmp_path, fps=4))

    assert [int(frame.pixels[0, 0, 0]) for frame in frames] == [10, 20, 0]
    assert [frame.captured_at.timestamp() for frame in frames] == [1_700_000_000 + place / 4 for place in range(3)]
    assert [f.captured_at for f in ns.Camera(tmp_path, start=NOON)] == [NOON + timedelta(seconds=s) for s in range(3)]


def test_numbers_in_names_count_as_numbers(tmp_path) -> None:
    for number in (0, 1, 2, 10, 11):
        photograph(tmp_path / f"walk-{number}.png", 10 * number)

    assert [int(frame.pixels[0, 0, 0]) for frame in ns.Camera(tmp_path)] == [0, 10, 20, 100, 110]


def test_pixels_may_be_written_to(clip, photos) -> None:
    for source in (clip, photos):
        pixels = next(iter(ns.Camera(source))).pixels
        pixels[:] = 7
        assert (pixels == 7).all()


def test_a_damaged_picture_is_left_out_and_named(tmp_path, photos) -> None:
    (tmp_path / "a.jpg").write_bytes((photos / "cat.jpg").read_bytes())
    whole = (photos / "coffee.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.jpg").write_bytes(b"no picture")
    (tmp_path / "d.jpg").write_bytes(whole)
    camera = ns.Camera(tmp_path, start=NOON)

    with pytest.warns(ns.NearsightWarning) as told:
        frames = list(camera)

    assert [(frame.index, (frame.captured_at - NOON).seconds) for frame in frames] == [(0, 0), (3, 3)]
    assert [failure.path.name for failure in camera.skipped] == ["b.jpg", "c.jpg"]
    assert all(failure.reason for failure in camera.skipped)
    for warning, name in zip(told, ("b.jpg", "c.jpg"), strict=True):
        assert str(warning.message).startswith(f"cannot read the picture {tmp_path / name}: ")
        assert str(warning.message).endswith("; it is left out")
    (tmp_path / "b.jpg").unlink()
    (tmp_path / "c.jpg").unlink()
    assert len(list(ns.Camera(tmp_path))) == 2


def test_a_damaged_header_does_not_cost_the_others_their_times(tmp_path) -> None:
    photograph(tmp_path / "a.png", 10, "2026:05:01 12:00:09")
    photograph(tmp_path / "b.png", 20, "2026:05:01 12:00:00")
    (tmp_path / "c.png").write_bytes(b"no picture")

    with pytest.warns(ns.NearsightWarning, match=r"c\.png"):
        frames = list(ns.Camera(tmp_path, fps=1))

    assert [frame.captured_at for frame in frames] == [NOON, NOON + timedelta(seconds=9)]


def test_the_place_of_a_damaged_picture_may_be_taken_by_the_next_in_time(tmp_path) -> None:
    photograph(tmp_path / "b.png", 10, "2026:05:01 12:00:01")
    photograph(tmp_path / "c.png", 20, "2026:05:01 12:00:02")
    photograph(tmp_path / "a.png", 30, "2026:05:01 12:00:00")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: content.index(b"IDAT") + 8])

    with pytest.warns(ns.NearsightWarning, match=r"a\.png"):
        frames = list(ns.Camera(tmp_path, fps=0.1))

    assert [int(frame.pixels[0, 0, 0]) for frame in frames] == [10]


def test_a_time_that_no_calendar_has_is_none(tmp_path) -> None:
    photograph(tmp_path / "a.png", 10, "0001:01:01 12:00:00")
    photograph(tmp_path / "b.png", 20, "9999:12:31 12:00:00")

    frames = list(ns.Camera(tmp_path, start=NOON))

    assert [frame.captured_at for frame in frames] == [NOON, NOON + timedelta(seconds=1)]


def test_frames_beyond_the_calendar_end_the_reading(tmp_path) -> None:
    for name in ("a", "b"):
        photograph(tmp_path / f"{name}.png", 10)
    frames = iter(ns.Camera(tmp_path, fps=1e-12, start=NOON))

    assert next(frames).captured_at == NOON
    with pytest.raises(ns.CameraError, match="puts frame 1 1000000000000 s after the first, beyond the calendar"):
        next(frames)


@pytest.mark.parametrize("wrong", [0, None, b"a.mp4", ["a.mp4"]])
def test_what_is_no_path_is_refused(wrong) -> None:
    with pytest.raises(ns.InputError, match=f"got {type(wrong).__name__} .*; give a path"):
        ns.Camera(wrong)
