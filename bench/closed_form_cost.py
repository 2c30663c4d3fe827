# SPDX-License-Identifier: Apache-2.0
"""A whole fit in closed form beside scikit-learn's RidgeCV on the same hidden features and targets, in turns:
python3 closed_form_cost.py BUILD/bench/closed_form_cost FOLDER [ROUNDS [OPTIONS…]]"""
import os
import re
import statistics
import subprocess
import sys
import time

import numpy as np
from sklearn.linear_model import RidgeCV

program, folder = sys.argv[1:3]
rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
options = sys.argv[4:] + ["--features", os.path.join(folder, "features")]
subprocess.run([program, *options, "--write", folder], check=True)
phi, t = (np.load(os.path.join(folder, name)) for name in ("phi.npy", "t.npy"))
scale = float(((phi - phi.mean(0)) ** 2).sum() / phi.shape[1])
ours, theirs = [], []
for _ in range(rounds):
    text = subprocess.run([program, *options], check=True, capture_output=True, text=True).stdout
    ours.append(float(re.search(r"fit ([\d.]+) s", text).group(1)))
    start = time.perf_counter()
    model = RidgeCV(alphas=[scale * 10 ** (-4 + j / 2) for j in range(13)]).fit(phi, t)
    theirs.append(time.perf_counter() - start)
    print(f"fit {ours[-1]:.2f} s, RidgeCV {theirs[-1]:.2f} s (alpha {model.alpha_ / scale:.3g})", flush=True)
ratio = statistics.median(a / b for a, b in zip(ours, theirs))
print(f"{len(phi)} images, width {phi.shape[1]}: {statistics.median(ours):.2f} s beside {statistics.median(theirs):.2f} s: {ratio:.2f}")
