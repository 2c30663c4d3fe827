# SPDX-License-Identifier: Apache-2.0
"""A fit in closed form by the workers of a Dask cluster: python3 dask_shards.py SHARDS OPTIONS-OF-DISTILL…"""
import os
import subprocess
import sys

import dask


def distill(options, *more):
    subprocess.run([os.environ.get("PROMPTKD", "promptkd"), "distill", *options, *more], check=True)


if __name__ == "__main__":
    shards, options = int(sys.argv[1]), sys.argv[2:]
    dask.compute([dask.delayed(distill)(options, "--shard", f"{i}/{shards}") for i in range(1, shards + 1)])
    distill(options, "--merge-shards")
