#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stored targets in whose place stands what a student bundle says of the same images: a mixture that is to be distilled
back into one student.

    promptkd teacher-logits --augment none … --data fashion-mnist:DRAW --out asked.safetensors
    python3 bench/back_into_one.py build/release/promptkd BUNDLE DRAW asked.safetensors targets.safetensors
    promptkd distill --teacher-logits targets.safetensors --adapt lora …

DRAW is a folder of bench/draw_images.py. NumPy and safetensors are needed.
"""
import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png(path, pixels):
    """Grey, 28 x 28."""
    rows = b"".join(b"\0" + pixels[28 * y : 28 * (y + 1)] for y in range(28))
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 28, 28, 8, 0, 0, 0, 0)))
        file.write(chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def probabilities(program, bundle, draw, names):
    """(images, classes) of the training images in `draw`."""
    with open(os.path.join(draw, "train-images-idx3-ubyte"), "rb") as file:
        data = file.read()[16:]
    count = len(data) // 784
    found = np.zeros((count, len(names)))
    with tempfile.TemporaryDirectory() as folder:
        for i in range(count):
            write_png(os.path.join(folder, f"{i:06}.png"), data[784 * i : 784 * (i + 1)])
        command = [program, "classify", bundle, folder, "--format", "jsonl", "--top", str(len(names)), "--threads", "1"]
        answers = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for line in answers.splitlines():
        answer = json.loads(line)
        row = int(os.path.basename(answer["file"])[:6])
        for top in answer["top"]:
            found[row, names.index(top["class"])] = top["probability"]
    return found


def main():
    program, bundle, draw, asked, out = sys.argv[1:6]
    with safe_open(asked, "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        metadata = {k: v for k, v in file.metadata().items() if not k.startswith("promptkd.")}  # the digest is of others
    names = json.loads(metadata["class_names"])
    p = probabilities(program, bundle, draw, names)
    logits = np.log(np.maximum(p, 1e-12)).astype(np.float32)
    tensors["targets"] = np.broadcast_to(logits, tensors["targets"].shape).copy()
    save_file(tensors, out, metadata)


if __name__ == "__main__":
    main()
