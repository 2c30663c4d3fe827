#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a student costs where it runs: one engine, one process. bench/deploy.sh calls it; alone:

    python3 bench/deploy.py ENGINE MODEL IMAGE [--threads 2] [--repeat 20] [--library libpromptkd_c.so]

ENGINE: python (the package promptkd), c (the shared library), onnxruntime (MODEL is the exported file) or torch. Prints
one JSON line: seconds from the start of Python to the first answer, of which `import` were spent importing; the median
time of one image after that in milliseconds, decoding and preprocessing included; the process's memory at its peak.
"""
import time

begin = time.perf_counter()

import argparse
import ctypes
import json
import os
import resource
import statistics
import sys


def python_package(arguments):
    import promptkd

    def opened():
        student = promptkd.Classifier(arguments.model, threads=arguments.threads, max_batch=1)
        return lambda contents: student.top_k(contents, 1)[0]

    return opened


def c_library(arguments):
    library = ctypes.CDLL(os.path.abspath(arguments.library))
    library.promptkd_open.restype = ctypes.c_void_p
    library.promptkd_class_name.restype = library.promptkd_last_error.restype = ctypes.c_char_p

    class Image(ctypes.Structure):
        _fields_ = [("bytes", ctypes.c_char_p), ("size", ctypes.c_size_t), ("width", ctypes.c_int),
                    ("height", ctypes.c_int), ("stride", ctypes.c_size_t)]

    def opened():
        student = ctypes.c_void_p(library.promptkd_open(arguments.model.encode(), arguments.threads, 1))
        p = (ctypes.c_float * library.promptkd_classes(student))()

        def answer(contents):
            image = Image(contents, len(contents), 0, 0, 0)
            if library.promptkd_classify(student, ctypes.byref(image), 1, p) != 0:
                sys.exit(library.promptkd_last_error().decode())
            best = max(range(len(p)), key=lambda k: p[k])
            return library.promptkd_class_name(student, best).decode(), p[best]

        return answer

    return opened


def preprocessed(contents, resolution):
    """CLIP's test preprocessing by Pillow and numpy."""
    import io

    import numpy
    from PIL import Image

    image = Image.open(io.BytesIO(contents)).convert("RGB")
    factor = resolution / min(image.size)
    image = image.resize([max(resolution, int(side * factor)) for side in image.size], Image.BICUBIC)
    left, top = (round((side - resolution) / 2) for side in image.size)
    pixels = numpy.asarray(image.crop((left, top, left + resolution, top + resolution)), numpy.float32) / 255
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return ((pixels - numpy.float32(mean)) / numpy.float32(std)).transpose(2, 0, 1)[None]


def onnx_runtime(arguments):
    import numpy
    import onnxruntime

    def opened():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = arguments.threads
        session = onnxruntime.InferenceSession(arguments.model, options, providers=["CPUExecutionProvider"])
        resolution = session.get_inputs()[0].shape[-1]

        def answer(contents):
            logits = session.run(["logits"], {"pixel_values": preprocessed(contents, resolution)})[0][0]
            return int(logits.argmax()), float(numpy.exp(logits.max()))

        return answer

    return opened


def pytorch(arguments):
    import torch

    import torch_student

    def opened():
        torch.set_num_threads(arguments.threads)
        student = torch_student.Student(arguments.model).eval()
        prepare = torch_student.preparation(student.resolution)

        def answer(contents):
            with torch.inference_mode():
                p = student(prepare(torch_student.opened(contents))[None])[0]
            return student.classes[int(p.argmax())], float(p.max())

        return answer

    return opened


def main():
    engines = {"python": python_package, "c": c_library, "onnxruntime": onnx_runtime, "torch": pytorch}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=engines)
    parser.add_argument("model")
    parser.add_argument("image")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--library", default="libpromptkd_c.so")
    arguments = parser.parse_args()
    with open(arguments.image, "rb") as file:
        contents = file.read()
    opened = engines[arguments.engine](arguments)
    imported = time.perf_counter()
    answer = opened()
    best, probability = answer(contents)
    started = time.perf_counter()
    times = []
    for _ in range(arguments.repeat):
        asked = time.perf_counter()
        answer(contents)
        times.append(time.perf_counter() - asked)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"engine": arguments.engine, "start_s": round(started - begin, 3),
                      "import_s": round(imported - begin, 3), "image_ms": round(1000 * statistics.median(times), 1),
                      "peak_MiB": round(peak), "best": best, "probability": round(probability, 6)}))


main()
