"""One real small file per format and mode; what cannot be decoded says why."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ganaug.errors import UnreadableImageError
from ganaug.readers import decode
from ganaug.readers.source import Header

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 10), np.uint8)
COLOUR = RNG.integers(0, 256, (12, 10, 3), np.uint8)
DEEP = RNG.integers(0, 65536, (12, 10)).astype(np.uint16)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(
    data: bytes, channels: int = 3, height: int = 12, width: int = 10, **options: object
) -> np.ndarray:
    with decode.pillow_set_up(64_000_000):
        return decode.decode(data, decode.Target(height, width, channels, **options)).image


def reason(data: bytes, **options: object) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        pixels(data, **options)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "PPM", "GIF"])
def test_lossless_grey_images_keep_their_pixels_exactly(kind):
    data = encoded(Image.fromarray(GREY), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert (pixels(data, channels=1)[..., 0] == GREY).all()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "PPM"])
def test_lossless_colour_images_keep_their_pixels_exactly(kind):
    data = encoded(Image.fromarray(COLOUR), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert (pixels(data) == COLOUR).all()


def test_a_jpeg_decodes_as_pillow_decodes_it():
    data = encoded(Image.fromarray(COLOUR), "JPEG")
    assert (pixels(data) == np.asarray(Image.open(io.BytesIO(data)))).all()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colour_models_become_rgb(mode):
    image = Image.new("RGB", (10, 12), (200, 40, 90)).convert(mode)
    result = pixels(encoded(image, "TIFF")).astype(int)
    assert np.abs(result - [200, 40, 90]).max() <= 3


def test_one_bit_images_become_black_and_white():
    bits = GREY > 128
    assert (pixels(encoded(Image.fromarray(bits), "PNG"), channels=1)[..., 0] == bits * 255).all()


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(DEEP), "PNG"),
        encoded(Image.fromarray(DEEP), "TIFF"),
        encoded(Image.fromarray(DEEP).convert("I"), "TIFF"),
        b"P5 10 12 65535\n" + DEEP.astype(">u2").tobytes(),
    ],
    ids=["png", "tiff little endian", "32-bit integers", "pgm"],
)
def test_16_bit_grey_is_scaled_by_its_white(data):
    expected = np.floor(np.clip(DEEP / 65535 * 255, 0, 255) + 0.5)
    assert np.abs(pixels(data, channels=1)[..., 0] - expected).max() <= 1
    half = pixels(data, channels=1, white_16bit=32767)[..., 0]
    assert (half[DEEP >= 32767] == 255).all()


def test_big_endian_16_bit_tiff_reads_as_little_endian_does():
    image = Image.frombytes("I;16B", (10, 12), DEEP.astype(">u2").tobytes())
    little = pixels(encoded(Image.fromarray(DEEP), "TIFF"), channels=1)
    assert (pixels(encoded(image, "TIFF"), channels=1) == little).all()


def test_alpha_lies_on_white_unless_four_channels_are_wanted():
    rgba = np.dstack([COLOUR, np.zeros((12, 10), np.uint8)])
    rgba[:6, :, 3] = 255
    data = encoded(Image.fromarray(rgba), "PNG")
    flat = pixels(data)
    assert (flat[:6] == COLOUR[:6]).all()
    assert (flat[6:] == 255).all()
    assert (pixels(data, channels=4) == rgba).all()


def test_grey_with_alpha_and_palette_with_transparency_lie_on_white():
    la = Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (10, 12), 0)])
    assert (pixels(encoded(la, "PNG"), channels=1) == 255).all()
    palette = Image.new("P", (10, 12), 1)
    palette.putpalette([0, 0, 0, 250, 10, 20])
    assert (pixels(encoded(palette, "PNG")) == [250, 10, 20]).all()
    assert (pixels(encoded(palette, "PNG", transparency=1)) == 255).all()
    # Transparency as bytes, over which Pillow warns.
    assert (pixels(encoded(palette, "PNG", transparency=b"\xff\x00")) == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_orientation_is_respected_once(kind, orientation):
    # Quarters of distinct greys survive JPEG.
    grey = np.kron([[20, 90], [160, 230]], np.ones((16, 24))).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "TIFF":
        data = encoded(Image.fromarray(grey), kind, tiffinfo={0x0112: orientation})
    else:
        data = encoded(Image.fromarray(grey), kind, exif=exif)
    turns = {
        1: grey,
        2: grey[:, ::-1],
        3: grey[::-1, ::-1],
        4: grey[::-1],
        5: grey.T,
        6: np.rot90(grey, -1),
        7: grey[::-1, ::-1].T,
        8: np.rot90(grey),
    }
    upright = turns[orientation]
    result = pixels(data, 1, *upright.shape)[..., 0]
    assert np.abs(result.astype(int) - upright).max() <= 6
    header = decode.decode(data, decode.Target(8, 8, 1)).header
    assert (header.height, header.width) == upright.shape
    if kind != "PNG":
        # A PNG's orientation may come after its pixels, which a look at the header does not read.
        assert decode.read_header(data, 10_000) == header


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_the_first_frame_of_several_is_taken(kind):
    first, second = Image.new("L", (10, 12), 10), Image.new("L", (10, 12), 200)
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **lossless)
    assert (pixels(data, channels=1) == 10).all()


def test_crop_cuts_about_the_centre_and_pad_repeats_the_edge():
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 255
    wide[0, :] = 70
    data = encoded(Image.fromarray(wide), "PNG")
    crop = pixels(data, 1, 8, 8, fit="crop")[..., 0]
    assert (crop == wide[:, 8:16]).all()
    pad = pixels(data, 1, 24, 24, fit="pad")[..., 0]
    assert (pad[:9] == 70).all()
    assert (pad[8:16] == wide).all()


def test_whole_multiples_are_repeated_without_blur():
    data = encoded(Image.fromarray(GREY), "PNG")
    assert (pixels(data, 1, 24, 20)[..., 0] == np.kron(GREY, np.ones((2, 2)))).all()


def test_a_large_jpeg_is_the_same_with_and_without_previews():
    photo = Image.fromarray(RNG.integers(0, 256, (40, 50, 3), np.uint8)).resize((1000, 800))
    data = encoded(photo, "JPEG")
    plain = decode.decode(data, decode.Target(16, 16, 3))
    shown = decode.decode(data, decode.Target(16, 16, 3, has_preview=True))
    assert (plain.image == shown.image).all()
    assert plain.preview is None
    assert shown.preview is not None
    assert shown.preview.shape == (96, 96)
    assert (plain.header.height, plain.header.width) == (800, 1000)
    reference = np.asarray(photo.resize((16, 16), Image.Resampling.LANCZOS))
    assert np.abs(plain.image.astype(int) - reference).mean() < 4


@pytest.mark.parametrize(
    ("image", "is_grey"),
    [
        (Image.fromarray(GREY), True),
        (Image.fromarray(COLOUR), False),
        (Image.fromarray(DEEP), True),
        (Image.fromarray(GREY > 9), True),
        (Image.fromarray(GREY).convert("P"), True),
        (Image.fromarray(COLOUR).quantize(8), False),
    ],
)
def test_headers_tell_size_and_greyness(image, is_grey):
    assert decode.read_header(encoded(image, "PNG"), 10_000) == Header(12, 10, is_grey)


def damaged_png() -> bytes:
    data = encoded(Image.fromarray(COLOUR), "PNG")
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty"),
        (b"this is text, not an image", "not an image"),
        (damaged_png(), "damaged"),
        (encoded(Image.fromarray(COLOUR), "JPEG")[:-60], "damaged"),
        (encoded(Image.fromarray(GREY).convert("F"), "TIFF"), "floating-point"),
        (encoded(Image.new("RGB", (10, 10)).convert("RGB"), "ICO"), "not an image"),
    ],
    ids=["empty", "text", "cut png", "cut jpeg", "float tiff", "other format"],
)
def test_what_cannot_be_decoded_says_why(data, expected):
    assert expected in reason(data)


def test_bombs_are_refused_by_their_header_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bomb = encoded(Image.new("1", (5_000, 5_000)), "PNG")
        assert "pixels" in reason(bomb, max_pixels=1_000_000)
        with pytest.raises(UnreadableImageError, match="pixels"), decode.pillow_set_up(100_000):
            decode.read_header(bomb, 100_000)


def test_a_text_bomb_inside_a_png_is_unreadable():
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 5_000_000, zip=True)
    assert "damaged" in reason(encoded(Image.fromarray(GREY), "PNG", pnginfo=info))


def test_pillow_is_left_as_it_was():
    before = Image.MAX_IMAGE_PIXELS
    with decode.pillow_set_up(1000):
        assert Image.MAX_IMAGE_PIXELS == 1000
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_any_damage_gives_pixels_or_a_reason(kind):
    rng = np.random.default_rng(1)
    whole = np.frombuffer(encoded(Image.fromarray(COLOUR), kind), np.uint8)
    for _ in range(150):
        data = whole.copy()
        places = rng.integers(0, min(len(data), 200), 3)
        data[places] = rng.integers(0, 256, 3)
        with decode.pillow_set_up(100_000):
            try:
                decode.read_header(data.tobytes(), 100_000)
                decode.decode(data.tobytes(), decode.Target(8, 8, 3, max_pixels=100_000))
            except UnreadableImageError as error:
                assert len(str(error)) > 5  # noqa: PT017
