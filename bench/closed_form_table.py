# SPDX-License-Identifier: Apache-2.0
"""The table of students in closed form beside gradient descent on Fashion-MNIST, as Markdown, and its picture (SVG):
python3 bench/closed_form_table.py [--quick] [--build DIR] [--work DIR] [--picture FILE] [--sgd-images LIST] [--sgd-seeds LIST]
Runs <build>/bench/closed_form (every part, each seed other images) and <build>/promptkd distill (the demo's settings, the
first images), alone and with --guard. Finished runs in --work are not repeated; the table is made of what was run."""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys

here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
assets = os.path.join(here, "examples", "assets")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="few images, one seed: whether it works")
    p.add_argument("--build", default=os.path.join(here, "build", "release"))
    p.add_argument("--work", default=os.path.join(here, "build", "closed_form_table"))
    p.add_argument("--picture", help="SVG file (default: WORK/closed_form.svg)")
    p.add_argument("--images", default="10,30,100,300,1000,6000")
    p.add_argument("--classes", default="all,base,new")
    p.add_argument("--sgd-images", default="100,300,1000,6000")
    p.add_argument("--sgd-classes", default="all,base,new")
    p.add_argument("--seeds", default="1,2,3")
    p.add_argument("--sgd-seeds", help="of gradient descent (default: --seeds)")
    p.add_argument("--threads", default="1")
    o = p.parse_args()
    if o.quick:
        o.images, o.classes, o.sgd_images, o.sgd_classes, o.seeds = "30,200", "all", "200", "all", "1"
    o.sgd_seeds = o.sgd_seeds or o.seeds
    o.picture = o.picture or os.path.join(o.work, "closed_form.svg")
    return o


def closed_form(o):
    """{(classes, part): [(images, [base, new, harmonic mean, all], seconds)]} of bench/closed_form."""
    path = os.path.join(o.work, "closed_form.md")
    if not os.path.exists(path):
        command = [os.path.join(o.build, "bench", "closed_form"), "--images", o.images, "--seeds", o.seeds, "--classes",
                   o.classes, "--threads", o.threads, "--assets", assets]
        if o.quick:
            command += ["--width", "64", "--pool", "400", "--test-images", "500"]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        with open(path, "w") as file:
            file.write(text)
    rows, waiting = {}, []
    for line in open(path):
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if " of " in cells[0]:
            images, _, classes, _ = cells[0].split()
            waiting.append(((classes, cells[1]), int(images), [float(c.split()[0]) for c in cells[2:6]]))
        elif "fit:" in line:
            seconds = sum(float(line.split(part)[1].split()[0]) for part in ("fit:", "encoding:"))
            for key, images, values in waiting:
                rows.setdefault(key, []).append((images, values, seconds))
            waiting = []
    return rows


def descent(o, images, classes, guard):
    """Mean over the seeds of [base, new, harmonic mean, all] and seconds of training, and the images seen."""
    found, seconds, seen = [], [], 0
    for seed in o.sgd_seeds.split(","):
        out = os.path.join(o.work, f"sgd-{images}-{classes}-{'guard-' if guard else ''}{seed}")
        result = os.path.join(out, "result.json")
        if not os.path.exists(result):
            command = [os.path.join(o.build, "promptkd"), "distill", "--teacher", assets + "/fashion_clip_teacher.safetensors",
                       "--teacher-prompts", assets + "/fashion_teacher_prompts.safetensors",
                       "--student", assets + "/fashion_clip_student.safetensors", "--vocab", assets + "/fashion_bpe.txt.gz",
                       "--activation", "quick_gelu", "--data", "fashion-mnist:/usr/share/datasets/fashion-mnist",
                       "--images", str(images), "--distil-classes", classes, "--depth", "3", "--epochs", "10",
                       "--augment", "flip", "--batch", "8", "--seed", seed, "--threads", o.threads, "--out", out]
            subprocess.run(command + (["--guard"] if guard else []), check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
        with open(result) as file:
            r = json.load(file)
        found.append([r["base"], r["new"], r["harmonic_mean"], r["all"]])
        seconds.append(r["training"]["seconds"])
        seen = r["training"]["images"]
    return [statistics.mean(column) for column in zip(*found)], statistics.mean(seconds), seen


def table(o, fitted):
    parts = ["zero-shot student", "ridge", "ridge, KL step", "with mixing", "with mixing and guard"]
    print("| images | student | base | new | harmonic mean | all | seconds |\n|---|---|---|---|---|---|---|")
    for (classes, part), rows in sorted(fitted.items(), key=lambda item: (item[0][0], parts.index(item[0][1]))):
        for images, values, seconds in rows:
            took = "" if part == "zero-shot student" else f"{seconds:.1f}"
            print(f"| {images} of {classes} | {part} | " + " | ".join(f"{v:.2f}" for v in values) + f" | {took} |")
    curve = []
    for classes in o.sgd_classes.split(","):
        for images in map(int, o.sgd_images.split(",")):
            runs = [descent(o, images, classes, guard) for guard in (False, True)]
            for name, (values, seconds, seen) in zip(("gradient descent", "gradient descent, guard"), runs):
                print(f"| {seen} of {classes} | {name} | " + " | ".join(f"{v:.2f}" for v in values) + f" | {seconds:.1f} |",
                      flush=True)
            if classes == "all":  # the guard leaves the training as it is: of two equal ones the faster
                curve.append((runs[0][2], runs[0][0], min(seconds for _, seconds, _ in runs)))
    return curve


def panel(left, title, unit, series, limits, axis):
    """Harmonic mean over a logarithmic axis: one picture of the two."""
    width, height, top = 300, 190, 40
    low, high = limits

    def place(x, y):
        along = (math.log10(x) - math.log10(axis[0])) / (math.log10(axis[-1]) - math.log10(axis[0]))
        return left + along * width, top + height * (1 - (y - low) / (high - low))

    out = [f'<text x="{left}" y="{top - 14}" class="t">{title}</text>']
    for y in range(int(low), int(high) + 1, 5):
        _, at = place(axis[0], y)
        out.append(f'<path d="M{left} {at:.1f}h{width}" class="g"/><text x="{left - 6}" y="{at + 4:.1f}" class="y">{y}</text>')
    for x in axis:
        at, _ = place(x, low)
        out.append(f'<text x="{at:.1f}" y="{top + height + 16}" class="x">{x:g}{unit}</text>')
    for name, color, points in series:
        shown = [place(x, max(low, min(high, y))) for x, y in points]
        out.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in shown)}" stroke="{color}" class="l"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in shown]
    return out


def picture(path, fitted, curve):
    best = fitted[("all", "with mixing and guard")]
    zero = fitted[("all", "zero-shot student")][0][1][2]
    images = sorted({n for n, _, _ in best} | {n for n, _, _ in curve})
    spans = [s for _, _, s in best + curve if s > 0]
    by_images = [("closed form", "#0a7d4f", [(n, v[2]) for n, v, _ in best]),
                 ("gradient descent", "#c2571a", [(n, v[2]) for n, v, _ in curve]),
                 ("zero-shot student", "#777777", [(images[0], zero), (images[-1], zero)])]
    by_seconds = [(name, color, sorted((max(s, 0.01), v[2]) for _, v, s in rows))
                  for (name, color, _), rows in zip(by_images, (best, curve))]
    seconds = [10.0 ** e for e in range(math.floor(math.log10(min(spans))), math.ceil(math.log10(max(spans))) + 1)]
    by_seconds.append(("zero-shot student", "#777777", [(seconds[0], zero), (seconds[-1], zero)]))
    values = [y for _, _, points in by_images for _, y in points]
    limits = (5 * math.floor(min(values) / 5), 5 * math.ceil(max(values) / 5))
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 300" font-family="sans-serif" font-size="12">',
           "<style>.t{font-weight:bold}.g{stroke:#ddd}.l{fill:none;stroke-width:2}.y{text-anchor:end}.x{text-anchor:middle}"
           "</style>", '<rect width="760" height="300" fill="#fff"/>']
    out += panel(50, "harmonic mean over unlabelled images", "", by_images, limits, images)
    out += panel(430, "over seconds of the whole run", " s", by_seconds, limits, seconds)
    for i, (name, color, _) in enumerate(by_images):
        out.append(f'<circle cx="{60 + 180 * i}" cy="280" r="4" fill="{color}"/><text x="{70 + 180 * i}" y="284">{name}</text>')
    with open(path, "w") as file:
        file.write("\n".join(out + ["</svg>"]) + "\n")


if __name__ == "__main__":
    options = arguments()
    os.makedirs(options.work, exist_ok=True)
    fits = closed_form(options)
    picture(options.picture, fits, table(options, fits))
    print(f"\npicture: {options.picture}", file=sys.stderr)
