# SPDX-License-Identifier: Apache-2.0
"""Whole runs from Python: what they leave, who hears of it, how they are stopped. PROMPTKD_TEST_ASSETS: examples/assets;
PROMPTKD_FASHION_MNIST: the data set."""
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy
import pytest

import promptkd

ASSETS = os.environ["PROMPTKD_TEST_ASSETS"]
FASHION = os.environ.get("PROMPTKD_FASHION_MNIST", "/usr/share/datasets/fashion-mnist")


def asset(name):
    return os.path.join(ASSETS, name)


def small(out, **more):
    """Two epochs of ten steps."""
    spec = promptkd.DistillationSpec(
        teacher=asset("fashion_clip_teacher.safetensors"),
        teacher_prompts=asset("fashion_teacher_prompts.safetensors"),
        student=asset("fashion_clip_student.safetensors"),
        activation="quick_gelu",
        vocabulary=asset("fashion_bpe.txt.gz"),
        data=f"fashion-mnist:{FASHION}",
        images=40,
        batch=4,
        epochs=2,
        depth=3,
        augment="flip",
        out=out,
    )
    for name, value in more.items():
        setattr(spec, name, value)
    return spec


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing stopped, and its steps."""
    steps = []
    outcome = promptkd.distill(small(tmp_path_factory.mktemp("whole")), on_step=steps.append, threads=1)
    return outcome, steps


def test_distillation(whole):
    outcome, steps = whole
    assert outcome.steps == 20 and outcome.epochs == 2 and outcome.images == 40 and outcome.classes == 10
    assert [step.step for step in steps] == list(range(20)) and {step.epoch for step in steps} == {0, 1}
    assert steps[0].loss == outcome.first_loss and steps[-1].loss == outcome.last_loss and steps[0].lr > 0
    assert outcome.test_images == 10000 and 10 < outcome.accuracy < 100 and outcome.base > outcome.accuracy
    student = promptkd.Classifier(outcome.file, threads=1)
    assert student(numpy.zeros((1, 28, 28, 3), numpy.uint8)).shape == (1, 10)


def test_fits_without_steps(tmp_path):
    found = promptkd.distill({**vars(small(tmp_path, fit="closed-form")), "batch": None, "epochs": None, "width": 64})
    assert found.steps == 0 and found.images == 40 and found.accuracy > 50


def test_an_epoch_may_be_the_last(tmp_path, whole):
    epochs = []

    def on_epoch(epoch):
        epochs.append(epoch.epoch)
        return False

    stopped = promptkd.distill(small(tmp_path), on_epoch=on_epoch, threads=1)
    assert epochs == [1] and stopped.steps == 10 and stopped.accuracy is not None
    again = promptkd.distill(small(tmp_path), threads=1)  # the rest of it
    assert again.steps == 20 and again.last_loss == whole[0].last_loss


def test_an_exception_of_a_callback(tmp_path, whole):
    class Mine(Exception):
        pass

    def on_step(step):
        if step.step == 13:
            raise Mine("of step 13")

    with pytest.raises(Mine, match="of step 13") as caught:
        promptkd.distill(small(tmp_path), on_step=on_step, threads=1)
    assert caught.value.__traceback__ is not None
    assert not os.path.exists(tmp_path / "bundle.safetensors")
    again = []
    outcome = promptkd.distill(small(tmp_path), on_step=again.append, threads=1)
    assert again[0].step in (14, 15)  # the next step was on its way when the loss of this one was known
    assert outcome.steps == 20 and outcome.last_loss == whole[0].last_loss


def test_interruption_by_the_keyboard(tmp_path):
    """A process of its own: what Ctrl-C does to it, and that the same call goes on."""
    script = (
        "import promptkd, sys\n"
        "try:\n"
        "    promptkd.distill(dict(teacher=sys.argv[1], student=sys.argv[2], vocabulary=sys.argv[3], data=sys.argv[4],\n"
        "                          images=400, batch=4, epochs=500, depth=3, augment='none', out=sys.argv[5]), threads=1)\n"
        "except KeyboardInterrupt:\n"
        "    print('KeyboardInterrupt')\n"
    )
    arguments = [asset("fashion_clip_teacher.safetensors"), asset("fashion_clip_student.safetensors"),
                 asset("fashion_bpe.txt.gz"), f"fashion-mnist:{FASHION}", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)
    log = tmp_path / "log.jsonl"
    while not (log.exists() and log.stat().st_size > 1000) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "KeyboardInterrupt\n" and process.returncode == 0
    assert (tmp_path / "checkpoint").is_dir() and not (tmp_path / "bundle.safetensors").exists()
    done = len(log.read_text(encoding="utf-8").splitlines())

    class Enough(Exception):
        pass

    def on_step(step):
        assert step.step == done
        raise Enough

    with pytest.raises(Enough):
        promptkd.distill(dict(zip(("teacher", "student", "vocabulary", "data", "out"), arguments), images=400, batch=4,
                              epochs=500, depth=3, augment="none"), on_step=on_step, threads=1)


def test_the_interpreter_goes_on_meanwhile(tmp_path):
    counted = [0]
    over = threading.Event()

    def count():
        while not over.is_set():
            counted[0] += 1
            time.sleep(0.001)

    counter = threading.Thread(target=count)
    counter.start()
    promptkd.distill(small(tmp_path, epochs=1), threads=1)
    over.set()
    counter.join()
    assert counted[0] > 20


def test_a_learner(tmp_path):
    spec = promptkd.TrainingSpec(
        weights=asset("fashion_clip_student.safetensors"), vocabulary=asset("fashion_bpe.txt.gz"),
        data=f"fashion-mnist:{FASHION}", learner="coop", shots=2, epochs=1, batch=4, augment="flip", out=tmp_path,
    )
    steps = []
    found = promptkd.train(spec, on_step=steps.append)
    assert found.images == 10 and found.steps == len(steps) == 2 and os.path.exists(found.file)
    spec.options = {"text-weight": 1}
    with pytest.raises(promptkd.Error, match="coop has no option 'text-weight'"):
        promptkd.train(spec)


def test_a_protocol(tmp_path):
    found = promptkd.reproduce(promptkd.ReproductionSpec(
        protocol="base-to-novel", data=f"fashion-mnist:{FASHION}", images=40, test_images=100, seeds=[1], shots=[2],
        teacher=asset("fashion_clip_teacher.safetensors"), student=asset("fashion_clip_student.safetensors"),
        vocabulary=asset("fashion_bpe.txt.gz"), learner_epochs=1, learner_depth=2, epochs=1, depth=2, out=tmp_path,
    ))
    with open(tmp_path / "report.json", encoding="utf-8") as file:
        assert found == json.load(file)


@pytest.mark.parametrize(
    "more, text",
    [
        ({"epohcs": 3}, "no setting 'epohcs'; known: .*epochs"),
        ({"epochs": 2.5}, "epochs must be a whole number, found 2.5"),
        ({"epochs": 0}, "epochs must be at least 1, found 0"),
        ({"lr": -1}, "lr must be above 0"),
        ({"lr": "fast"}, "lr must be a number, found \"fast\""),
        ({"fit": "worst"}, "unknown fit 'worst'; known: sgd"),
        ({"mix": 1}, "mix must be true or false"),
        ({"recipe": "mine"}, "recipe must be published or adapted"),
        ({"student": ""}, "student is empty"),
        ({"student": None}, "student is needed"),
        ({"teacher": None}, "teacher is needed"),
        ({"student": "/nowhere.pt"}, "/nowhere.pt"),
        ({"class_names": [1, 2]}, "class_names must be a text"),
        ({"seed": -1}, "seed must be a whole number from 0 on"),
    ],
)
def test_bad_settings(tmp_path, more, text):
    with pytest.raises(promptkd.Error, match=text):
        promptkd.distill({**vars(small(tmp_path)), **more})


def test_other_types_of_settings(tmp_path):
    with pytest.raises(TypeError, match="DistillationSpec"):
        promptkd.distill(promptkd.TrainingSpec())
    with pytest.raises(TypeError, match="DistillationSpec"):
        promptkd.distill("distill")
    numbers = small(tmp_path, images=numpy.int64(40), batch=numpy.int32(4), lr=numpy.float32(0.004), epochs=1)
    assert promptkd.distill(numbers, threads=1).steps == 10


def test_warnings_are_pythons(tmp_path):
    """Fewer than 1,000 images and nothing that guards the student: the comparison at its end warns."""
    with pytest.warns(UserWarning):
        promptkd.distill(small(tmp_path, epochs=1), threads=1)
