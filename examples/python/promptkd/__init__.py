# SPDX-License-Identifier: Apache-2.0
"""Distilled CLIP students, and CLIP models: images in, classes and features out.

Images are paths, the bytes of image files, PIL images, arrays (height, width, 3) of uint8, or arrays
(n, height, width, 3) in the place of a list. They may have any size: the model's own preprocessing is applied.
Every call releases the interpreter's lock; errors are `promptkd.Error`.
"""

from __future__ import annotations

import os
from typing import List, Sequence, Tuple, Union

import numpy

from . import _core
from ._core import Error, ResourceError, __version__

__all__ = ["Classifier", "Clip", "Error", "ResourceError", "__version__"]


def _image(image):
    """One image as the module takes it."""
    if isinstance(image, (bytes, bytearray, memoryview)):
        file = bytes(image)
        if not file:
            raise Error("an image of no bytes")
        return file
    if isinstance(image, (str, os.PathLike)):
        path = os.fspath(image)
        if not path:
            raise Error("an image with an empty path")
        return os.fsdecode(path)
    if hasattr(image, "convert") and hasattr(image, "mode"):  # a PIL image
        image = image.convert("RGB")
    pixels = numpy.asarray(image)
    if pixels.dtype != numpy.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise Error(
            f"an image is a path, the bytes of a file, a PIL image or an array (height, width, 3) of uint8; found "
            f"shape {pixels.shape} of {pixels.dtype}"
        )
    return numpy.ascontiguousarray(pixels)


def _images(images) -> list:
    """A list of images, or a single one."""
    single = isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike))
    if single or hasattr(images, "convert") or getattr(images, "ndim", 4) == 3:
        images = [images]
    return [_image(image) for image in images]


class Classifier:
    """A distilled student, read from its bundle: a path, or the bytes of the file.

    `threads` of each call (0: all cores), `callers` that are computed at the same time (more of them wait; 0: as many
    as there are cores), `max_batch` images that are computed together. May be used by any number of threads.
    """

    def __init__(self, bundle, *, threads: int = 0, callers: int = 1, max_batch: int = 8):
        if not isinstance(bundle, bytes):
            bundle = os.fsdecode(os.fspath(bundle))
            if not bundle:
                raise Error("a bundle with an empty path")
        self._student = _core.Student(bundle, threads, callers, max_batch)

    @property
    def class_names(self) -> List[str]:
        """The classes, equal names told apart."""
        return self._student.class_names

    @property
    def resolution(self) -> int:
        """Pixels a side to which images are resized."""
        return self._student.resolution

    def __call__(self, images) -> numpy.ndarray:
        """Probabilities (n, classes) in float32."""
        return self._student.classify(_images(images))

    def top_k(self, image, k: int = 5) -> List[Tuple[str, float]]:
        """The `k` most likely classes of one image and their probabilities, the likeliest first."""
        return self._student.top_k(_image(image), k)


class Clip:
    """A CLIP model from its weights, in any form that the program reads.

    `vocabulary`: the tokenizer's file, where it is not beside the weights. Calls of several threads wait for each
    other.
    """

    def __init__(self, weights, *, vocabulary="", threads: int = 0, max_batch: int = 8):
        self._clip = _core.Clip(os.fsdecode(os.fspath(weights)), os.fsdecode(os.fspath(vocabulary)), threads, max_batch)

    @property
    def embed(self) -> int:
        """Values of a feature."""
        return self._clip.embed

    @property
    def scale(self) -> float:
        """The factor of the cosine in every logit."""
        return self._clip.scale

    @property
    def resolution(self) -> int:
        """Pixels a side to which images are resized."""
        return self._clip.resolution

    def encode_image(self, images, *, normalize: bool = True) -> numpy.ndarray:
        """Features (n, embed) in float32, of unit length unless `normalize` is false."""
        return self._clip.encode_image(_images(images), normalize)

    def encode_text(self, texts: Union[str, Sequence[str]], *, normalize: bool = True) -> numpy.ndarray:
        """Features (n, embed) in float32, of unit length unless `normalize` is false."""
        return self._clip.encode_text([texts] if isinstance(texts, str) else list(texts), normalize)

    def class_vectors(self, names: Sequence[str], templates: Sequence[str] = ("a photo of a {}.",)) -> numpy.ndarray:
        """Normalised class vectors (names, embed), averaged over the templates, "{}" standing for the name."""
        return self._clip.class_vectors(list(names), list(templates))
