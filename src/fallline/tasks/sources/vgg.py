"""The published weights of VGG-19: from a file, or downloaded once, with progress and checksum."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.error import URLError

import torch
from torch import nn

from ...errors import BadTask, NotFound
from ...layers import vgg19
from . import cache

NAME, CHECKSUM = "vgg19-dcbb9e9d.pth", "dcbb9e9d"
"""The beginning of the file's SHA-256 is in its name."""
URL = f"https://download.pytorch.org/models/{NAME}"
PREFIX, CHANNELS = "features.", 64
"""How names begin, and the channels of the first layer."""


def published(weights: str | os.PathLike[str] = "download") -> nn.Sequential:
    """The convolutions of VGG-19 with published weights.

    Args:
        weights: a file of torchvision's ``vgg19``, or "download" for the one that torchvision publishes (548 MB), which is
            kept in the cache.

    Raises:
        NotFound: where there is no such file, or no network.
        BadTask: where the file holds something else.
    """
    path = downloaded() if str(weights) == "download" else Path(weights)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise NotFound(
            f'there is no file {path} with weights of VGG-19; "download" fetches the published ones'
        ) from None
    except Exception as error:
        raise BadTask(
            f"{path} cannot be read as weights of VGG-19: {' '.join(str(error).split())[:200]}"
        ) from error
    if not isinstance(state, dict) or f"{PREFIX}0.weight" not in state:
        raise BadTask(
            f"{path} holds no weights of VGG-19: it lacks {PREFIX}0.weight; a file of torchvision's vgg19 has it"
        )
    net = vgg19(
        width=len(state[f"{PREFIX}0.weight"]) / CHANNELS, pool="average", init="default", features_only=True
    )
    made = net.features
    assert isinstance(made, nn.Sequential)
    own = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    try:
        made.load_state_dict(own)
    except RuntimeError as error:
        raise BadTask(
            f"{path} holds other weights than VGG-19's: {' '.join(str(error).split())[:200]}"
        ) from error
    return made


def downloaded() -> Path:
    """The published file in the cache; fetched where it is not there, whole and with its checksum or not at all."""
    path = cache.folder() / NAME
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(URL, str(path), hash_prefix=CHECKSUM, progress=True)
    except (URLError, OSError, RuntimeError) as error:
        raise NotFound(
            f"the weights of VGG-19 cannot be fetched from {URL} ({getattr(error, 'reason', error)}): put the file there as "
            f"{path}, or leave the weights out for random features, which need no file"
        ) from error
    return path
