#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every kind of product of the published sizes, in promptkd and in PyTorch by turns: GFLOP/s of both, and the ratio.

    python3 bench/products.py [--rounds 3] [--dtype bf16] [--threads 2] [--ours build/release/bench/product]

Rows: 8 images of ViT-B/16 (197 tokens, 201 with prompts) and of ViT-L/14 (261 with prompts), 100 short texts of 9 tokens.
"""
import argparse
import statistics
import time

import torch

import compare

# name, M, N, K, products of a batch; PyTorch's side is x @ W.T (a Linear), or dy @ W for the gradient
SHAPES = [("B/16 patches", 1568, 768, 768, 1)]
for name, rows, width in (("B/16", 1608, 768), ("L/14", 2088, 1024), ("B/16 text", 900, 512), ("L/14 text", 900, 768)):
    SHAPES += [(f"{name} in_proj", rows, 3 * width, width, 1), (f"{name} out_proj", rows, width, width, 1),
               (f"{name} c_fc", rows, 4 * width, width, 1), (f"{name} c_proj", rows, width, 4 * width, 1)]
SHAPES += [("B/16 scores", 201, 201, 64, 96), ("B/16 mix", 201, 64, 201, 96), ("L/14 scores", 261, 261, 64, 128), ("L/14 mix", 261, 64, 261, 128),
           ("projector", 8, 768, 512, 1), ("projector, 2nd", 8, 768, 768, 1)]


def torch_seconds(m, n, k, batch, backward, dtype):
    x = torch.randn(batch, m, n if backward else k, dtype=dtype)
    w = torch.randn(batch, n, k, dtype=dtype)
    if batch == 1:
        x, w = x[0], w[0]
    product = (lambda: x @ w) if backward else (lambda: x @ w.transpose(-1, -2))
    repeat = max(5, int(5e10 / (2 * batch * m * n * k)))
    product()
    seconds = []
    for _ in range(repeat):
        begin = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ours", default="build/release/bench/product")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[arguments.dtype]
    print(f"{'product':24}{'M × N × K (× batch)':>26}{'promptkd':>10}{'PyTorch':>10}{'ratio':>8}   GFLOP/s, {arguments.dtype}; ratio of rates")
    for name, m, n, k, batch in SHAPES:
        for backward in ([False, True] if batch == 1 else [False]):
            ours, theirs = [], []
            for _ in range(arguments.rounds):
                command = [arguments.ours, str(m), str(n), str(k), "--batch", str(batch), "--dtype", arguments.dtype, "--threads", str(arguments.threads)]
                ours.append(compare.run(command + (["--backward"] if backward else []))["seconds"])
                theirs.append(torch_seconds(m, n, k, batch, backward, dtype))
            rate = 2e-9 * batch * m * n * k
            mine, peer = rate / statistics.median(ours), rate / statistics.median(theirs)
            size = f"{m} × {n} × {k}" + (f" × {batch}" if batch > 1 else "")
            print(f"{name + (' (gradient)' if backward else ''):24}{size:>26}{mine:10.1f}{peer:10.1f}{mine / peer:8.2f}", flush=True)


if __name__ == "__main__":
    main()
