# SPDX-License-Identifier: Apache-2.0
"""Adds the sums that the shards of a fit in closed form have left: python3 add_sums.py SUMS… ADDED"""
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


def read(path):
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def add(a, b):
    """What begins with first. is the same in all, rows. is put behind one another, the rest is added."""
    return {k: a[k] if k[:6] == "first." else np.concatenate([a[k], b[k]]) if k[:5] == "rows." else a[k] + b[k] for k in a}


if __name__ == "__main__":
    total, metadata = read(sys.argv[1])
    for path in sys.argv[2:-1]:
        total = add(total, read(path)[0])
    kept = {k: v for k, v in metadata.items() if not k.startswith("promptkd.")}  # the digest is of one part
    save_file(total, sys.argv[-1], kept)
