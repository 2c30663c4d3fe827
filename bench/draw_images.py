#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws COUNT of the first --of training images of Fashion-MNIST (or another data set in its files) without
replacement, by --seed, into the folder TO, in whose test part all test images are.

    python3 bench/draw_images.py /usr/share/datasets/fashion-mnist draw --count 300 --seed 1
"""
import argparse
import gzip
import os
import random
import struct
import sys

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def read(folder, name):
    """The bytes of an idx file, compressed or not."""
    path = os.path.join(folder, name)
    if os.path.exists(path):
        with open(path, "rb") as file:
            return file.read()
    with gzip.open(path + ".gz", "rb") as file:
        return file.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("to")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--of", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    images, labels = read(a.root, IMAGES), read(a.root, LABELS)
    rows, columns = struct.unpack(">II", images[8:16])
    size, of = rows * columns, min(a.of, len(labels) - 8)
    if not 0 < a.count <= of:
        sys.exit(f"draw_images.py: {a.count} of {of} images cannot be drawn")
    drawn = random.Random(a.seed).sample(range(of), a.count) if a.count < of else range(of)
    os.makedirs(a.to, exist_ok=True)
    with open(os.path.join(a.to, IMAGES), "wb") as file:
        file.write(struct.pack(">IIII", 2051, a.count, rows, columns))
        file.writelines(images[16 + i * size:16 + (i + 1) * size] for i in drawn)
    with open(os.path.join(a.to, LABELS), "wb") as file:
        file.write(struct.pack(">II", 2049, a.count) + bytes(labels[8 + i] for i in drawn))
    for name in os.listdir(a.root):
        link = os.path.join(a.to, name)
        if name.startswith("t10k-") and not os.path.lexists(link):
            os.symlink(os.path.abspath(os.path.join(a.root, name)), link)


if __name__ == "__main__":
    main()
