"""Pictures: read from files of any kind and from arrays, and written as PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..errors import BadTask

LEAST = 16
"""Pixels that a picture must have on each side."""
Picture: TypeAlias = Tensor
"""[1, 3, height, width], from 0 to 1."""


def read(given: Any, size: int) -> Picture:
    """A picture, scaled so that its longer side has ``size`` pixels.

    Gray pictures get three equal channels, and transparent parts become white.

    Args:
        given: a path, or an array [height, width] or [height, width, channels] of bytes or of numbers from 0 to 1.
        size: pixels of the longer side.

    Raises:
        BadTask: where it cannot be read, or is too narrow.
    """
    from PIL import Image

    if isinstance(size, bool) or not isinstance(size, int) or size < LEAST:
        raise BadTask(
            f"size is the number of pixels of the longer side, a whole number of at least {LEAST}; got {size!r}"
        )
    what, image = _opened(given)
    wide, high = image.size
    scale = size / max(wide, high)
    fitted = (round(wide * scale), round(high * scale))
    if min(wide, high, *fitted) < LEAST:
        raise BadTask(
            f"{what} is {wide} × {high} pixels, which at a size of {size} leaves {fitted[0]} × {fitted[1]}: a picture needs "
            f"{LEAST} on each side to have a texture"
        )
    pixels = np.asarray(image.resize(fitted, Image.Resampling.LANCZOS), dtype=np.float32) / 255
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def _opened(given: Any) -> tuple[str, Any]:
    """What it is called, and the picture in RGB, on white where it is transparent."""
    from PIL import Image

    if isinstance(given, (str, Path)):
        try:
            with Image.open(given) as file:
                image = file.convert("RGBA")
        except FileNotFoundError:
            raise BadTask(f"there is no picture {given}") from None
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise BadTask(f"{given} cannot be read as a picture: {error}") from error
        name = str(given)
    else:
        image, name = _from_array(given), "the array"
    white = Image.new("RGBA", image.size, "white")
    return name, Image.alpha_composite(white, image).convert("RGB")


def _from_array(given: Any) -> Any:
    from PIL import Image

    array = np.asarray(given)
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not fits or array.size == 0:
        raise BadTask(
            f"a picture is a path or an array [height, width] or [height, width, 1, 3 or 4], got {list(array.shape)}"
        )
    if array.dtype != np.uint8:
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise BadTask(
                "a picture that is an array holds bytes, or numbers from 0 to 1; this one holds others"
            )
        array = np.round(array * 255).astype(np.uint8)
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array).convert(
        "RGBA"
    )


def png(picture: Picture) -> bytes:
    """A picture as a PNG file."""
    from PIL import Image

    pixels = (picture[0].detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels.contiguous().numpy()).save(file, "PNG")
    return file.getvalue()
