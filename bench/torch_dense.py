#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Dense prediction by a ViT-B/16 in PyTorch, as the published codes do it: a photo in sliding windows, one at a time
(NACLIP: keys compared with keys, a Gaussian of the distance, attention alone), or square crops around boxes in one batch.
On random weights and class vectors: times do not depend on their values.

    python3 bench/torch_dense.py segment --width 1000 --height 750 --window 224 --stride 112 --threads 2
    python3 bench/torch_dense.py detect --boxes 50 --threads 2

Prints one JSON line: seconds of the fastest of --repeat rounds, and the peak of the memory. In turns with it, whole
commands (B16: any ViT-B/16; its values do not matter):

    python3 bench/compare_commands.py --rounds 3 \\
        "promptkd segment --weights B16 --class-names NAMES PHOTO --window 224 --stride 112 --threads 2 --out maps" \\
        "python3 bench/torch_dense.py segment --threads 2 --repeat 1"
    python3 bench/compare_commands.py --rounds 3 \\
        "promptkd detect --weights B16 --class-names NAMES --boxes BOXES --threads 2 --batch 50" \\
        "python3 bench/torch_dense.py detect --boxes 50 --threads 2 --repeat 1"
"""
import argparse
import json
import resource
import time

import torch
import torch.nn.functional as F

WIDTH, LAYERS, HEADS, EMBED, RESOLUTION, PATCH = 768, 12, 12, 512, 224, 16


def weights(seed=1):
    """A ViT-B/16 under OpenAI's names, random."""
    torch.manual_seed(seed)
    side = RESOLUTION // PATCH
    w = {"conv1": torch.randn(WIDTH, 3, PATCH, PATCH) * 0.02, "class": torch.randn(WIDTH) * 0.02,
         "positions": torch.randn(side * side + 1, WIDTH) * 0.02, "proj": torch.randn(WIDTH, EMBED) * 0.03}
    for i in range(LAYERS):
        shapes = {"in_proj": (3 * WIDTH, WIDTH), "out_proj": (WIDTH, WIDTH), "c_fc": (4 * WIDTH, WIDTH),
                  "c_proj": (WIDTH, 4 * WIDTH)}
        for name, shape in shapes.items():
            w[f"{i}.{name}"] = torch.randn(*shape) * 0.02
            w[f"{i}.{name}.bias"] = torch.zeros(shape[0])
    return w


def norm(x):
    return F.layer_norm(x, (WIDTH,))


def heads(x):
    return x.view(x.shape[0], x.shape[1], HEADS, WIDTH // HEADS).transpose(1, 2)


def joined(x):
    return x.transpose(1, 2).reshape(x.shape[0], -1, WIDTH)


def block(w, i, x):
    q, k, v = F.linear(norm(x), w[f"{i}.in_proj"], w[f"{i}.in_proj.bias"]).chunk(3, dim=-1)
    y = joined(F.scaled_dot_product_attention(heads(q), heads(k), heads(v)))
    x = x + F.linear(y, w[f"{i}.out_proj"], w[f"{i}.out_proj.bias"])
    h = F.linear(norm(x), w[f"{i}.c_fc"], w[f"{i}.c_fc.bias"])
    return x + F.linear(h * torch.sigmoid(1.702 * h), w[f"{i}.c_proj"], w[f"{i}.c_proj.bias"])


def last_block(w, i, x, near):
    _, k, v = (heads(part) for part in F.linear(norm(x), w[f"{i}.in_proj"], w[f"{i}.in_proj.bias"]).chunk(3, dim=-1))
    scores = k @ k.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5 + near
    return F.linear(joined(scores.softmax(dim=-1) @ v), w[f"{i}.out_proj"], w[f"{i}.out_proj.bias"])


def nearness(side, sigma=5.0):
    at = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).view(-1, 2).float()
    near = torch.zeros(side * side + 1, side * side + 1)
    near[1:, 1:] = torch.exp(-((at[:, None] - at[None]) ** 2).sum(-1) / (2 * sigma**2))
    return near


def encode(w, images, near=None):
    """Features of the patches with `near`, of the images without."""
    x = F.conv2d(images, w["conv1"], stride=PATCH).flatten(2).transpose(1, 2)
    x = torch.cat([w["class"].expand(x.shape[0], 1, -1), x], 1) + w["positions"]
    x = norm(x)
    for i in range(LAYERS - 1):
        x = block(w, i, x)
    x = last_block(w, LAYERS - 1, x, near)[:, 1:] if near is not None else block(w, LAYERS - 1, x)[:, 0]
    return F.normalize(norm(x) @ w["proj"], dim=-1)


def windows(length, window, stride):
    count = max(length - window + stride - 1, 0) // stride + 1
    ends = [min(i * stride + window, length) for i in range(count)]
    return [(max(end - window, 0), end) for end in ends]


def segment(w, vectors, photo, o):
    near = nearness(o.window // PATCH)
    height, width = photo.shape[-2:]
    logits, count = torch.zeros(1, len(vectors), height, width), torch.zeros(1, 1, height, width)
    for top, bottom in windows(height, o.window, o.stride):
        for left, right in windows(width, o.window, o.stride):
            features = encode(w, photo[:, :, top:bottom, left:right], near)
            side = o.window // PATCH
            grid = (features @ vectors.T).transpose(1, 2).view(1, len(vectors), side, side)
            logits[:, :, top:bottom, left:right] += F.interpolate(grid, (bottom - top, right - left), mode="bilinear")
            count[:, :, top:bottom, left:right] += 1
    return (40 * logits / count).softmax(1).argmax(1)


def detect(w, vectors, photo, o):
    height, width = photo.shape[-2:]
    generator = torch.Generator().manual_seed(1)
    crops = []
    for _ in range(o.boxes):
        side = int(torch.randint(60, 300, (1,), generator=generator))
        top = int(torch.randint(0, height - side, (1,), generator=generator))
        left = int(torch.randint(0, width - side, (1,), generator=generator))
        crop = photo[:, :, top:top + side, left:left + side]
        crops.append(F.interpolate(crop, (RESOLUTION, RESOLUTION), mode="bicubic", antialias=True))
    return (100 * encode(w, torch.cat(crops)) @ vectors.T).softmax(-1).argmax(-1)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("task", choices=["segment", "detect"])
    for name, value in (("width", 1000), ("height", 750), ("window", 224), ("stride", 112), ("boxes", 50),
                        ("classes", 21), ("threads", 2), ("repeat", 3)):
        p.add_argument("--" + name, type=int, default=value)
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    w = weights()
    vectors = F.normalize(torch.randn(o.classes, EMBED), dim=-1)
    photo = torch.randn(1, 3, o.height, o.width)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(o.repeat):
            begun = time.perf_counter()
            (segment if o.task == "segment" else detect)(w, vectors, photo, o)
            best = min(best, time.perf_counter() - begun)
    print(json.dumps({"task": o.task, "seconds": best,
                      "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
