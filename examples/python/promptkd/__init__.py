# SPDX-License-Identifier: Apache-2.0
"""Distilled CLIP students, and CLIP models: images in, classes and features out.

Images are paths, the bytes of image files, PIL images, arrays (height, width, 3) of uint8, or arrays
(n, height, width, 3) in the place of a list. They may have any size: the model's own preprocessing is applied.
`distill`, `train` and `reproduce` are whole runs, as the program's commands of these names.
Every call releases the interpreter's lock; errors are `promptkd.Error`.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, List, Optional, Sequence, Tuple, Union


def _require_main_interpreter() -> None:
    """What the extension module keeps belongs to one interpreter."""
    get, main = ctypes.pythonapi.PyInterpreterState_Get, ctypes.pythonapi.PyInterpreterState_Main
    get.restype = main.restype = ctypes.c_void_p
    if get() != main():
        raise ImportError("promptkd works in the main interpreter of a process alone, not in sub-interpreters")


_require_main_interpreter()

import numpy  # noqa: E402  (after the check, which says more than numpy would)

from . import _core  # noqa: E402
from ._core import Error, ResourceError, __version__  # noqa: E402
from .runs import Epoch, Outcome, Step, distill, reproduce, train  # noqa: E402
from .specs import DistillationSpec, ReproductionSpec, TrainingSpec  # noqa: E402

__all__ = [
    "Classifier",
    "Clip",
    "DistillationSpec",
    "Epoch",
    "Error",
    "Outcome",
    "ReproductionSpec",
    "ResourceError",
    "Step",
    "TrainingSpec",
    "__version__",
    "distill",
    "reproduce",
    "train",
]


#: A path, the bytes of an image file, an array (height, width, 3) of uint8, or a PIL image.
Image = Any
#: Images, or a single one, or an array (n, height, width, 3) of uint8.
Images = Any
Path = Union[str, "os.PathLike[str]"]


def _image(image: Image) -> Union[str, bytes, numpy.ndarray]:
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


def _images(images: Images) -> list:
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

    def __init__(self, bundle: Union[str, os.PathLike[str], bytes], *, threads: int = 0, callers: int = 1, max_batch: int = 8):
        if not isinstance(bundle, bytes):
            bundle = os.fsdecode(os.fspath(bundle))
            if not bundle:
                raise Error("a bundle with an empty path")
        self._open: Optional[_core.Student] = _core.Student(bundle, threads, callers, max_batch)

    @property
    def _student(self) -> _core.Student:
        student = self._open
        if student is None:
            raise Error("this Classifier is closed")
        return student

    def close(self) -> None:
        """Gives the weights back once the calls at work have ended; later calls are an Error."""
        self._open = None

    def __enter__(self) -> Classifier:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def class_names(self) -> List[str]:
        """The classes, equal names told apart."""
        return self._student.class_names

    @property
    def resolution(self) -> int:
        """Pixels a side to which images are resized."""
        return self._student.resolution

    def __call__(self, images: Images) -> numpy.ndarray:
        """Probabilities (n, classes) in float32."""
        return self._student.classify(_images(images))

    def top_k(self, image: Image, k: int = 5) -> List[Tuple[str, float]]:
        """The `k` most likely classes of one image and their probabilities, the likeliest first."""
        return self._student.top_k(_image(image), k)


class Clip:
    """A CLIP model from its weights, in any form that the program reads.

    `vocabulary`: the tokenizer's file, where it is not beside the weights. Calls of several threads wait for each
    other.
    """

    def __init__(self, weights: Path, *, vocabulary: Path = "", threads: int = 0, max_batch: int = 8):
        weights, vocabulary = os.fsdecode(os.fspath(weights)), os.fsdecode(os.fspath(vocabulary))
        self._open: Optional[_core.Clip] = _core.Clip(weights, vocabulary, threads, max_batch)

    @property
    def _clip(self) -> _core.Clip:
        clip = self._open
        if clip is None:
            raise Error("this Clip is closed")
        return clip

    def close(self) -> None:
        """Gives the weights back once the calls at work have ended; later calls are an Error."""
        self._open = None

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_) -> None:
        self.close()

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

    def encode_image(self, images: Images, *, normalize: bool = True) -> numpy.ndarray:
        """Features (n, embed) in float32, of unit length unless `normalize` is false."""
        return self._clip.encode_image(_images(images), normalize)

    def encode_text(self, texts: Union[str, Sequence[str]], *, normalize: bool = True) -> numpy.ndarray:
        """Features (n, embed) in float32, of unit length unless `normalize` is false."""
        return self._clip.encode_text([texts] if isinstance(texts, str) else list(texts), normalize)

    def class_vectors(self, names: Sequence[str], templates: Sequence[str] = ("a photo of a {}.",)) -> numpy.ndarray:
        """Normalised class vectors (names, embed), averaged over the templates, "{}" standing for the name."""
        return self._clip.class_vectors(list(names), list(templates))
