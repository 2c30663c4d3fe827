# SPDX-License-Identifier: Apache-2.0
"""Whole runs: what the commands distill, train and reproduce do, with functions that hear what happens."""

from __future__ import annotations

import dataclasses
import json
import warnings
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Union

from . import _core
from .specs import DistillationSpec, ReproductionSpec, TrainingSpec, settings_json


class Step(NamedTuple):
    """A training step that was done: its number and epoch from 0, the loss of its batch, the learning rate."""

    step: int
    loss: float
    lr: float
    epoch: int


class Epoch(NamedTuple):
    """An epoch that was done, its checkpoint written: how many there are now, the loss of the last step."""

    epoch: int
    loss: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run has left and found. Accuracies are in percent, and None where there were no labelled test images;
    `base`, `new` and `harmonic_mean` also where the classes were not evaluated by halves."""

    file: str
    images: int
    classes: int
    epochs: int
    steps: int
    first_loss: float
    last_loss: float
    accuracy: Optional[float] = None
    test_images: Optional[int] = None
    base: Optional[float] = None
    new: Optional[float] = None
    harmonic_mean: Optional[float] = None


OnStep = Callable[[Step], Any]
OnEpoch = Callable[[Epoch], Optional[bool]]


def _run(run, settings: str, on_step, on_epoch, threads: int) -> Dict[str, Any]:
    step = None if on_step is None else lambda *values: on_step(Step(*values))
    epoch = None if on_epoch is None else lambda *values: on_epoch(Epoch(*values))
    return json.loads(run(settings, threads, step, epoch, lambda text: warnings.warn(text, stacklevel=4)))


def distill(
    spec: Union[DistillationSpec, Mapping[str, Any]],
    *,
    on_step: Optional[OnStep] = None,
    on_epoch: Optional[OnEpoch] = None,
    threads: int = 0,
) -> Outcome:
    """Distils a student; `Outcome.file` is its bundle, for `Classifier`.

    `on_step` is called after each training step, `on_epoch` after each epoch: if it returns False, the run ends as if
    that had been its last one. Ctrl-C, and an exception of either, end it after the step at hand, with a checkpoint: the
    same call goes on from there. Warnings are Python's. `threads`: 0 for all cores.
    """
    return Outcome(**_run(_core.distill, settings_json(spec, DistillationSpec), on_step, on_epoch, threads))


def train(
    spec: Union[TrainingSpec, Mapping[str, Any]],
    *,
    on_step: Optional[OnStep] = None,
    on_epoch: Optional[OnEpoch] = None,
    threads: int = 0,
) -> Outcome:
    """Trains a prompt learner; `Outcome.file` has its prompts. Else as `distill`."""
    return Outcome(**_run(_core.train, settings_json(spec, TrainingSpec), on_step, on_epoch, threads))


def reproduce(
    spec: Union[ReproductionSpec, Mapping[str, Any]],
    *,
    on_step: Optional[OnStep] = None,
    on_epoch: Optional[OnEpoch] = None,
    threads: int = 0,
) -> Dict[str, Any]:
    """Runs a published experiment; returns what report.json in its folder says. Else as `distill`."""
    return _run(_core.reproduce, settings_json(spec, ReproductionSpec), on_step, on_epoch, threads)
