# SPDX-License-Identifier: Apache-2.0
"""onnx_agrees.py MODEL.onnx ANSWERS.json IMAGES [--raw] [--tolerance X] [--engine onnxruntime|openvino]

The probabilities of an exported student against those of `promptkd classify BUNDLE IMAGES --top CLASSES --json ANSWERS`.
IMAGES is a folder of grey or colour PNG files of the model's size. Exit status 1 and one line where they differ."""
import argparse
import json
import os
import struct
import sys
import zlib

import numpy as np
import onnx


def read_png(path):
    """(3, height, width) bytes of a PNG file without interlace, 8 bits, grey or RGB, filter 0 in every row."""
    data = open(path, "rb").read()
    at, body = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IHDR":
            width, height, _, colour = struct.unpack(">IIBB", data[at + 8 : at + 18])
        if kind == b"IDAT":
            body += data[at + 8 : at + 8 + size]
        at += 12 + size
    channels = {0: 1, 2: 3}[colour]
    rows = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, 1 + width * channels)
    assert not rows[:, 0].any(), path + ": filtered rows"
    pixels = rows[:, 1:].reshape(height, width, channels)
    return np.repeat(pixels, 3 // channels, axis=2).transpose(2, 0, 1)


def engine(name, path):
    """A function from an input to the list of outputs."""
    if name == "openvino":
        import openvino

        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda x: [compiled(x)[i] for i in range(len(compiled.outputs))]
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {session.get_inputs()[0].name: x})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("answers")
    parser.add_argument("images")
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--engine", default="onnxruntime")
    o = parser.parse_args()
    onnx.checker.check_model(o.model, full_check=True)
    answers = json.load(open(o.answers))
    names = [os.path.basename(a["file"]) for a in answers]
    pixels = np.stack([read_png(os.path.join(o.images, n)) for n in names])
    if not o.raw:
        mean = np.array([0.48145466, 0.4578275, 0.40821073], np.float32).reshape(1, 3, 1, 1)
        deviation = np.array([0.26862954, 0.26130258, 0.27577711], np.float32).reshape(1, 3, 1, 1)
        pixels = ((pixels / np.float32(255) - mean) / deviation).astype(np.float32)
    infer = engine(o.engine, o.model)
    logits = np.concatenate([infer(pixels[i : i + 64])[0] for i in range(0, len(pixels), 64)]).astype(np.float64)
    one = infer(pixels[:1])[0]
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    classes = json.loads({e.key: e.value for e in onnx.load(o.model, load_external_data=False).metadata_props}["class_names"])
    worst = float(np.abs(one - logits[:1]).max())
    if worst > 0.05:
        sys.exit(f"{o.model}: {o.engine}: one image alone has other logits than in a batch, by {worst:.3g}")
    expected = np.zeros_like(p)
    for i, answer in enumerate(answers):
        for top in answer["top"]:
            expected[i, classes.index(top["class"])] = top["probability"]
    worst = float(np.abs(p - expected).max())
    sums = float(np.abs(np.exp(logits).sum(1) - 1).max())
    print(f"{o.model}: {o.engine}: {len(names)} images, largest difference of a probability {worst:.2g}")
    if worst > o.tolerance or sums > max(o.tolerance, 1e-3) or abs(expected.sum() - len(names)) > 1e-3 * len(names):
        sys.exit(f"{o.model}: {o.engine}: probabilities differ by {worst:.3g} (bound {o.tolerance}); sums off by {sums:.3g}")


main()
