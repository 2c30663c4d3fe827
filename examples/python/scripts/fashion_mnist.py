# SPDX-License-Identifier: Apache-2.0
"""Distils a small student on Fashion-MNIST, without labels, and plots what happened: python fashion_mnist.py [OUT].

A script of cells (`# %%`), for editors that run them one by one. Needs the package, matplotlib, and Fashion-MNIST
(Debian: dataset-fashion-mnist; another folder by PROMPTKD_FASHION_MNIST).
"""

# %% What there is: a teacher with learned prompts, a student, images without labels.
import os
import sys

import matplotlib
import numpy

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import promptkd

assets = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "assets")
root = os.environ.get("PROMPTKD_FASHION_MNIST", "/usr/share/datasets/fashion-mnist")
out = sys.argv[1] if len(sys.argv) > 1 else "fashion_mnist"
images = int(os.environ.get("IMAGES", "2000"))
spec = promptkd.DistillationSpec(
    teacher=os.path.join(assets, "fashion_clip_teacher.safetensors"),
    teacher_prompts=os.path.join(assets, "fashion_teacher_prompts.safetensors"),
    student=os.path.join(assets, "fashion_clip_student.safetensors"),
    activation="quick_gelu",
    vocabulary=os.path.join(assets, "fashion_bpe.txt.gz"),
    data=f"fashion-mnist:{root}",
    images=images,
    augment="flip",
    depth=3,
    epochs=4,
)

# %% Two students: prompts and projector by gradient descent as published, and one in closed form.
losses = []
spec.out = os.path.join(out, "sgd")
descent = promptkd.distill(spec, on_step=lambda step: losses.append(step.loss))
print(f"gradient descent: base {descent.base:.2f}, new {descent.new:.2f}, all {descent.accuracy:.2f}")

fitted = promptkd.distill({
    "teacher": spec.teacher,
    "teacher_prompts": spec.teacher_prompts,
    "student": spec.student,
    "activation": spec.activation,
    "vocabulary": spec.vocabulary,
    "data": spec.data,
    "images": images,
    "fit": "closed-form",
    "out": os.path.join(out, "closed_form"),
})
print(f"closed form: base {fitted.base:.2f}, new {fitted.new:.2f}, all {fitted.accuracy:.2f}")

# %% What the student says of test images, beside the zero-shot student that it came from.
with promptkd.Classifier(descent.file) as student, promptkd.Clip(spec.student, vocabulary=spec.vocabulary) as clip:
    import gzip

    with gzip.open(os.path.join(root, "t10k-images-idx3-ubyte.gz")) as file:
        grey = numpy.frombuffer(file.read(16 + 12 * 784)[16:], numpy.uint8).reshape(12, 28, 28)
    pictures = numpy.repeat(grey[..., None], 3, axis=3)
    probabilities = student(pictures)
    vectors = clip.class_vectors(student.class_names)
    zero_shot = (clip.encode_image(pictures) @ vectors.T).argmax(axis=1)
    names = student.class_names

# %% The plot.
figure = plt.figure(figsize=(10, 6))
grid = figure.add_gridspec(3, 6)
axes = figure.add_subplot(grid[0, :])
axes.plot(losses, linewidth=0.5)
axes.set_xlabel("step")
axes.set_ylabel("loss")
axes.set_yscale("log")
for i, picture in enumerate(pictures):
    axes = figure.add_subplot(grid[1 + i // 6, i % 6])
    axes.imshow(picture)
    axes.set_axis_off()
    best = probabilities[i].argmax()
    axes.set_title(f"{names[best]} {probabilities[i, best]:.0%}\nbefore: {names[zero_shot[i]]}", fontsize=7)
figure.tight_layout()
figure.savefig(os.path.join(out, "fashion_mnist.png"), dpi=150)
print("plot:", os.path.join(out, "fashion_mnist.png"))
