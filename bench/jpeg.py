#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Images a second on one core: decoding and preprocessing of 500x375 JPEG files, with every decoder of the build beside Pillow.

usage: bench/jpeg.py [--program build/release/bench/jpeg] [--seconds 3] [--images 24] [PHOTO ...]

With Pillow the photos (or, without any, generated pictures) are re-encoded to 500x375, quality 90, 4:2:0, and Pillow and NumPy
do the same work as promptkd: decode, shorter side to 224 bicubic, central crop, normalise. Without Pillow the photos are used
as they are."""
import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("photos", nargs="*")
parser.add_argument("--program", default=os.path.join(os.path.dirname(__file__), "..", "build", "release", "bench", "jpeg"))
parser.add_argument("--seconds", type=float, default=3)
parser.add_argument("--images", type=int, default=24)
options = parser.parse_args()

try:
    import numpy
    from PIL import Image
    import PIL
except ImportError:
    Image = None


def generated(seed):
    random = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[0:375, 0:500]
    picture = numpy.stack([128 + 90 * numpy.sin(x / random.uniform(8, 90) + y / random.uniform(8, 90)) for _ in range(3)], -1)
    for _ in range(40):
        cy, cx, r = random.integers(0, 375), random.integers(0, 500), random.integers(5, 70)
        picture[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = random.integers(0, 256, 3)
    return Image.fromarray(numpy.clip(picture + random.normal(0, 6, picture.shape), 0, 255).astype(numpy.uint8))


def encoded(folder):
    sources = options.photos[: options.images] or range(options.images)
    for i, source in enumerate(sources):
        picture = generated(source) if isinstance(source, int) else Image.open(source).convert("RGB")
        path = os.path.join(folder, "%03d.jpg" % i)
        picture.resize((500, 375), Image.BICUBIC).save(path, quality=90, subsampling="4:2:0")
        yield path


def rate(function, files):
    for data in files:
        function(data)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < options.seconds:
        for data in files:
            function(data)
        done += len(files)
    return done / (time.perf_counter() - start)


def pillow(paths):
    mean = numpy.array([0.48145466, 0.4578275, 0.40821073], numpy.float32)
    deviation = numpy.array([0.26862954, 0.26130258, 0.27577711], numpy.float32)

    def decode(data):
        return Image.open(io.BytesIO(data)).convert("RGB")

    def resized(picture):
        width, height = picture.size
        short = min(width, height)
        width, height = 224 * width // short, 224 * height // short
        left, top = round((width - 224) / 2), round((height - 224) / 2)
        return picture.resize((width, height), Image.BICUBIC).crop((left, top, left + 224, top + 224))

    def preprocess(data):
        pixels = numpy.asarray(resized(decode(data)), numpy.float32) / 255
        return numpy.ascontiguousarray(((pixels - mean) / deviation).transpose(2, 0, 1))

    files = [open(path, "rb").read() for path in paths]
    pictures = [decode(data) for data in files]
    return {"decoder": "Pillow " + PIL.__version__, "images_per_second": rate(preprocess, files), "decode": rate(decode, files),
            "resize_crop": rate(resized, pictures)}


with tempfile.TemporaryDirectory() as folder:
    if Image is None and not options.photos:
        sys.exit("jpeg.py: without Pillow, name JPEG files of 500x375")
    paths = options.photos if Image is None else list(encoded(folder))
    run = subprocess.run([options.program, "--seconds", str(options.seconds)] + paths, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit(run.returncode)
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    if Image is not None:
        rows.append(pillow(paths))
print("| images a second, one core | decode and preprocess | decode | resize and crop |")
print("|---|---|---|---|")
for row in rows:
    print("| %s | %.0f | %.0f | %.0f |" % (row["decoder"], row["images_per_second"], row["decode"], row["resize_crop"]))
