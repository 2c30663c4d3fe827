# SPDX-License-Identifier: Apache-2.0
"""What whole runs take. The names are those of the program's options; None stands for the published value, or that of
the recipe. `promptkd COMMAND --help` and examples/README.md say more of each."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Dict, List, Mapping, Optional, Sequence, Union

Path = Union[str, "os.PathLike[str]"]
Paths = Union[Path, Sequence[Path]]


@dataclasses.dataclass
class DistillationSpec:
    """A distillation: PromptKD's second stage, or one of the other fits.

    Needed: `student` (CLIP weights), `data` ("folder:ROOT", "list:FILE", "fashion-mnist:ROOT", …), `out` (the output
    folder) and `teacher` (CLIP weights, several for several teachers) or `teacher_logits` (the file of the command
    teacher-logits). `fit` is "sgd" (published), "closed-form" or "best", `adapt` "prompts", "lora" or "full".
    """

    student: Optional[Path] = None
    data: Optional[str] = None
    out: Optional[Path] = None
    teacher: Optional[Paths] = None
    teacher_prompts: Optional[Paths] = None
    teacher_config: Optional[Path] = None
    teacher_logits: Optional[Path] = None
    class_vectors: Optional[Path] = None
    student_config: Optional[Path] = None
    activation: Optional[str] = None
    init: Optional[Path] = None
    vocabulary: Optional[Path] = None
    class_names: Optional[Sequence[str]] = None
    template: Optional[str] = None
    templates: Optional[Sequence[str]] = None
    descriptions: Optional[Path] = None
    images: Optional[int] = None
    holdout: Optional[float] = None
    evaluate: Optional[str] = None
    distil_classes: Optional[str] = None
    fit: Optional[str] = None
    adapt: Optional[str] = None
    recipe: Optional[str] = None
    rank: Optional[int] = None
    body_rate: Optional[float] = None
    clip: Optional[float] = None
    checks: Optional[int] = None
    hold_out: Optional[int] = None
    folds: Optional[int] = None
    budget_seconds: Optional[float] = None
    one_pass: Optional[bool] = None
    merge_lora: Optional[bool] = None
    width: Optional[int] = None
    mix: Optional[bool] = None
    guard: Optional[bool] = None
    prompts: Optional[int] = None
    depth: Optional[int] = None
    projector_layers: Optional[int] = None
    recompute: Optional[bool] = None
    kd: Optional[str] = None
    temperature: Optional[float] = None
    kd_weight: Optional[float] = None
    lr: Optional[float] = None
    epochs: Optional[int] = None
    batch: Optional[int] = None
    steps: Optional[int] = None
    schedule: Optional[str] = None
    warmup: Optional[str] = None
    augment: Optional[str] = None
    optimizer: Optional[str] = None
    weight_decay: Optional[float] = None
    seed: Optional[int] = None
    loader_threads: Optional[int] = None
    fresh: Optional[bool] = None


@dataclasses.dataclass
class TrainingSpec:
    """A prompt learner on a few labelled images, or with `teacher` on images without labels (KDPL).

    Needed: `weights` (CLIP weights), `data` and `out`. `learner` is "coop", "cocoop", "vpt", "ivlp", "maple",
    "promptsrc" (the default) or another of the program's; `options` are its own numbers by name.
    """

    weights: Optional[Path] = None
    data: Optional[str] = None
    out: Optional[Path] = None
    learner: Optional[str] = None
    model_config: Optional[Path] = None
    activation: Optional[str] = None
    vocabulary: Optional[Path] = None
    class_names: Optional[Sequence[str]] = None
    classes: Optional[str] = None
    shots: Optional[int] = None
    allow_fewer: Optional[bool] = None
    images: Optional[int] = None
    holdout: Optional[float] = None
    evaluate: Optional[str] = None
    context: Optional[int] = None
    context_words: Optional[str] = None
    position: Optional[str] = None
    class_specific: Optional[bool] = None
    visual_prompts: Optional[int] = None
    depth: Optional[int] = None
    options: Optional[Mapping[str, float]] = None
    class_chunk: Optional[int] = None
    teacher: Optional[Path] = None
    teacher_prompts: Optional[Path] = None
    lr: Optional[float] = None
    epochs: Optional[int] = None
    batch: Optional[int] = None
    steps: Optional[int] = None
    schedule: Optional[str] = None
    warmup: Optional[str] = None
    augment: Optional[str] = None
    optimizer: Optional[str] = None
    weight_decay: Optional[float] = None
    seed: Optional[int] = None
    loader_threads: Optional[int] = None
    fresh: Optional[bool] = None


@dataclasses.dataclass
class ReproductionSpec:
    """A published experiment over data sets and seeds.

    Needed: `protocol` ("base-to-novel", "cross-dataset", "domain-generalization" or "few-shot"), `data` (one or more
    "NAME:ROOT"), `out`, and `teacher` with `student` (PromptKD) or `weights` (a learner alone).
    """

    protocol: Optional[str] = None
    data: Optional[Union[str, Sequence[str]]] = None
    out: Optional[Path] = None
    source: Optional[str] = None
    teacher: Optional[Path] = None
    student: Optional[Path] = None
    weights: Optional[Path] = None
    learner: Optional[str] = None
    teacher_prompts: Optional[Path] = None
    teacher_config: Optional[Path] = None
    student_config: Optional[Path] = None
    activation: Optional[str] = None
    vocabulary: Optional[Path] = None
    learner_lr: Optional[float] = None
    learner_epochs: Optional[int] = None
    learner_batch: Optional[int] = None
    learner_depth: Optional[int] = None
    learner_prompts: Optional[int] = None
    learner_augment: Optional[str] = None
    fit: Optional[str] = None
    lr: Optional[float] = None
    epochs: Optional[int] = None
    batch: Optional[int] = None
    depth: Optional[int] = None
    prompts: Optional[int] = None
    kd_weight: Optional[float] = None
    temperature: Optional[float] = None
    augment: Optional[str] = None
    seeds: Optional[Sequence[int]] = None
    shots: Optional[Sequence[int]] = None
    images: Optional[int] = None
    test_images: Optional[int] = None
    loader_threads: Optional[int] = None
    allow_incomplete: Optional[bool] = None
    fresh: Optional[bool] = None


def settings_json(spec, kind) -> str:
    """The settings of `spec`, a `kind` or a mapping of its names, that are given."""
    if isinstance(spec, kind):
        given: Dict[str, object] = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    elif isinstance(spec, Mapping):
        given = dict(spec)
    else:
        raise TypeError(f"expected a {kind.__name__} or a mapping of its names, found {type(spec).__name__}")
    return json.dumps({name: value for name, value in given.items() if value is not None}, default=_plain)


def _plain(value):
    """What json does not know: paths, numbers of numpy, sequences that are no list."""
    if isinstance(value, os.PathLike):
        return os.fsdecode(os.fspath(value))
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    items: List[object] = list(value)
    return items
