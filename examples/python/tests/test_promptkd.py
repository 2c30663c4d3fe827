# SPDX-License-Identifier: Apache-2.0
"""What the program says, from Python. PROMPTKD_TEST_RUN: a folder with bundle.safetensors, pngs/, answers.json
(classify --top 10 --json of the pngs) and texts.safetensors (encode --texts); PROMPTKD_TEST_ASSETS: examples/assets."""
import concurrent.futures
import glob
import json
import os
import struct
import subprocess
import sys

import numpy
import PIL.Image
import pytest

import promptkd

RUN = os.environ["PROMPTKD_TEST_RUN"]
ASSETS = os.environ["PROMPTKD_TEST_ASSETS"]
BUNDLE = os.path.join(RUN, "bundle.safetensors")
PNGS = sorted(glob.glob(os.path.join(RUN, "pngs", "*.png")))
TEXTS = ["a photo of a bag.", "a sneaker"]


@pytest.fixture(scope="module")
def student():
    return promptkd.Classifier(BUNDLE, threads=1, callers=2)


@pytest.fixture(scope="module")
def clip():
    vocabulary = os.path.join(ASSETS, "fashion_bpe.txt.gz")
    return promptkd.Clip(os.path.join(ASSETS, "fashion_clip_teacher.safetensors"), vocabulary=vocabulary, threads=1)


def read_tensor(path, name):
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        begin, end = header[name]["data_offsets"]
        file.seek(8 + size + begin)
        return numpy.frombuffer(file.read(end - begin), numpy.float32).reshape(header[name]["shape"])


def test_as_the_program(student):
    with open(os.path.join(RUN, "answers.json"), encoding="utf-8") as file:
        answers = json.load(file)
    assert len(answers) == len(PNGS) > 0
    found = student(PNGS)
    assert found.shape == (len(PNGS), len(student.class_names)) and found.dtype == numpy.float32
    for row, answer in zip(found, answers):
        wanted = {one["class"]: one["probability"] for one in answer["top"]}
        for name, p in zip(student.class_names, row):
            assert abs(p - wanted[name]) < 1e-4
    best, probability = student.top_k(PNGS[0], 1)[0]
    assert best == answers[0]["top"][0]["class"] and abs(probability - answers[0]["top"][0]["probability"]) < 1e-4


def test_every_kind_of_image(student):
    wanted = student(PNGS[0])
    with open(PNGS[0], "rb") as file:
        contents = file.read()
    picture = PIL.Image.open(PNGS[0])
    pixels = numpy.asarray(picture.convert("RGB"))
    for image in (contents, picture, pixels, pixels[::1], numpy.stack([pixels]), [picture]):
        assert numpy.array_equal(student(image), wanted)
    mirrored = pixels[:, ::-1]  # not contiguous
    assert numpy.array_equal(student(mirrored), student(numpy.ascontiguousarray(mirrored)))
    assert student([]).shape == (0, len(student.class_names))


def test_bundle_in_memory(student):
    with open(BUNDLE, "rb") as file:
        other = promptkd.Classifier(file.read(), threads=1)
    assert other.class_names == student.class_names
    assert numpy.array_equal(other(PNGS[:2]), student(PNGS[:2]))


def test_threads(student):
    wanted = student(PNGS)
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        for found in threads.map(lambda _: student(PNGS), range(24)):
            assert numpy.array_equal(found, wanted)


def test_clip(clip):
    texts = clip.encode_text(TEXTS)
    assert texts.shape == (2, clip.embed)
    raw = read_tensor(os.path.join(RUN, "texts.safetensors"), "text_features")
    assert numpy.abs(clip.encode_text(TEXTS, normalize=False) - raw).max() < 1e-4
    assert numpy.abs(texts - raw / numpy.linalg.norm(raw, axis=1, keepdims=True)).max() < 1e-5
    images = clip.encode_image(PNGS[:3])
    assert images.shape == (3, clip.embed)
    assert numpy.allclose(numpy.linalg.norm(images, axis=1), 1, atol=1e-4)
    assert numpy.array_equal(clip.encode_text("a sneaker"), clip.encode_text(["a sneaker"]))
    one = clip.class_vectors(["bag"], ["a photo of a {}."])
    assert numpy.allclose(one, clip.encode_text("a photo of a bag."), atol=1e-6)
    assert clip.class_vectors(["bag", "shirt"], ["a {}", "one {}"]).shape == (2, clip.embed)
    assert clip.scale > 1 and clip.resolution > 0


@pytest.mark.parametrize(
    "image, text",
    [
        (b"", "no bytes"),
        (b"no image", "image 0"),
        ("", "empty path"),
        ("/nowhere.png", "/nowhere.png"),
        (numpy.zeros((8, 8), numpy.uint8), "(8, 8)"),
        (numpy.zeros((8, 8, 3), numpy.float32), "float32"),
        (numpy.zeros((8, 8, 4), numpy.uint8), "(8, 8, 4)"),
        (numpy.zeros((0, 8, 3), numpy.uint8), "empty"),
    ],
)
def test_bad_images(student, image, text):
    with pytest.raises(promptkd.Error, match=".*" + text.replace("(", r"\(").replace(")", r"\)")):
        student([image])
    assert len(student.top_k(PNGS[0], 1)) == 1  # it goes on


def test_bad_arguments(student, clip):
    with pytest.raises(promptkd.Error):
        promptkd.Classifier("/nowhere.safetensors")
    with pytest.raises(promptkd.Error, match="memory"):
        promptkd.Classifier(b"no bundle")
    with pytest.raises(promptkd.Error, match="largest batch of -1"):
        promptkd.Classifier(BUNDLE, max_batch=-1)
    with pytest.raises(promptkd.Error, match="callers"):
        promptkd.Classifier(BUNDLE, callers=-1)
    with pytest.raises(promptkd.Error, match="0 most likely"):
        student.top_k(PNGS[0], 0)
    with pytest.raises(promptkd.Error):
        clip.encode_text("word " * 500)
    with pytest.raises(TypeError):
        promptkd.Classifier(3.5)
    with pytest.raises(promptkd.Error, match="template"):
        clip.class_vectors(["bag"], [])
    assert issubclass(promptkd.ResourceError, promptkd.Error) and issubclass(promptkd.Error, RuntimeError)


def test_use_after_close():
    with promptkd.Classifier(BUNDLE, threads=1) as student:
        assert student(PNGS[0]).shape[0] == 1
    for use in (
        lambda: student(PNGS),
        lambda: student.class_names,
        lambda: student.top_k(PNGS[0]),
        lambda: student.resolution,
    ):
        with pytest.raises(promptkd.Error, match="closed"):
            use()
    student.close()  # again: nothing
    vocabulary = os.path.join(ASSETS, "fashion_bpe.txt.gz")
    with promptkd.Clip(os.path.join(ASSETS, "fashion_clip_student.safetensors"), vocabulary=vocabulary) as clip:
        clip.encode_text("bag")
    with pytest.raises(promptkd.Error, match="closed"):
        clip.encode_text("bag")


def test_closed_while_threads_are_at_work():
    student = promptkd.Classifier(BUNDLE, threads=1, callers=2)
    wanted = student(PNGS)

    def ask(_):
        try:
            return numpy.array_equal(student(PNGS), wanted)
        except promptkd.Error as error:
            return "closed" in str(error)

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask, i) for i in range(40)]
        student.close()
        assert all(one.result() for one in asked)


def test_a_second_interpreter_is_refused():
    """In a process of its own: what a sub-interpreter's import says, after the main one has imported it."""
    script = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import promptkd
code = '''
try:
    import promptkd
    print("imported")
except ImportError as error:
    print("ImportError:", error)
'''
other = interpreters.create()
interpreters.run_string(other, "import sys\\nsys.path[:] = " + repr(__import__("sys").path))
interpreters.run_string(other, code)
interpreters.destroy(other)
print(promptkd.__version__)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert first.startswith("ImportError: ") and ("main interpreter" in first or "subinterpreter" in first)
    assert last == promptkd.__version__


def test_every_public_name_is_documented_and_typed():
    """The stubs have what the module has, and every public function its docstring."""
    for name in promptkd.__all__:
        assert name == "__version__" or getattr(promptkd, name).__doc__, name
    with open(os.path.join(os.path.dirname(promptkd.__file__), "_core.pyi"), encoding="utf-8") as file:
        stub = file.read()
    for name in dir(promptkd._core):
        assert name.startswith("_") or f"class {name}" in stub or f"def {name}(" in stub, name
    for kind in ("Student", "Clip"):
        for name in dir(getattr(promptkd._core, kind)):
            assert name.startswith("_") or f"def {name}(" in stub, f"{kind}.{name}"
