#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A student bundle in PyTorch: image encoder, visual prompts, projector and class vectors of a ViT distilled by gradient
descent, as a careful user would write it. Needs torch, torchvision, safetensors, Pillow.

    python3 bench/torch_student.py BUNDLE IMAGE…    # prints the classes of each image as JSON
"""
import io
import json
import math
import sys

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from torchvision import transforms


class Student(torch.nn.Module):
    """Probabilities of prepared images (n, 3, r, r)."""

    def __init__(self, path):
        super().__init__()
        with safe_open(path, "pt") as file:
            self.classes = json.loads(file.metadata()["class_names"])
            if "requires" in file.metadata():
                sys.exit(f"torch_student.py: {path} has features that this script does not know")
            t = {name.removeprefix("clip."): file.get_tensor(name).float() for name in file.keys()}
        self.t = t
        self.patch = t["visual.conv1.weight"].shape[-1]
        self.resolution = math.isqrt(t["visual.positional_embedding"].shape[0] - 1) * self.patch
        self.width = t["visual.class_embedding"].shape[0]
        self.layers = sum(name.startswith("visual.") and name.endswith("in_proj_weight") for name in t)
        self.scale = t["logit_scale"].exp()

    def norm(self, x, name):
        return F.layer_norm(x, (self.width,), self.t[name + ".weight"], self.t[name + ".bias"])

    def linear(self, x, name, dot="."):
        return F.linear(x, self.t[name + dot + "weight"], self.t[name + dot + "bias"])

    def block(self, x, i):
        p = f"visual.transformer.resblocks.{i}."
        prompt = self.t.get(f"image_encoder.transformer.resblocks.{i}.VPT_shallow")
        if prompt is not None:
            x = torch.cat([x[:, : -prompt.shape[0]], prompt.expand(x.shape[0], -1, -1)], 1)
        b, n, d = x.shape
        heads = d // 64
        qkv = self.linear(self.norm(x, p + "ln_1"), p + "attn.in_proj", "_").view(b, n, 3, heads, 64)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        x = x + self.linear(attended, p + "attn.out_proj")
        y = self.linear(self.norm(x, p + "ln_2"), p + "mlp.c_fc")
        return x + self.linear(y * torch.sigmoid(1.702 * y), p + "mlp.c_proj")

    def project(self, x):
        layer = 0
        while f"VPT_image_trans.conv1.{layer}.weight" in self.t:
            name = f"VPT_image_trans.conv1.{layer}"
            x = F.linear(x, self.t[name + ".weight"].flatten(1), self.t[name + ".bias"])
            norm = f"VPT_image_trans.conv1.{layer + 1}"
            if norm + ".running_mean" not in self.t:
                break
            statistics = (self.t[norm + ".running_mean"], self.t[norm + ".running_var"])
            x = F.relu(F.batch_norm(x, *statistics, self.t[norm + ".weight"], self.t[norm + ".bias"]))
            layer += 3
        return x

    def forward(self, images):
        x = F.conv2d(images, self.t["visual.conv1.weight"], stride=self.patch).flatten(2).transpose(1, 2)
        x = torch.cat([self.t["visual.class_embedding"].expand(len(x), 1, -1), x], 1)
        x = x + self.t["visual.positional_embedding"]
        if "image_encoder.VPT" in self.t:
            x = torch.cat([x, self.t["image_encoder.VPT"].expand(len(x), -1, -1)], 1)
        x = self.norm(x, "visual.ln_pre")
        for i in range(self.layers):
            x = self.block(x, i)
        x = self.project(self.norm(x[:, 0], "visual.ln_post") @ self.t["visual.proj"])
        return (self.scale * F.normalize(x, dim=-1) @ self.t["class_vectors"].T).softmax(-1)


def preparation(resolution):
    """CLIP's test preprocessing."""
    return transforms.Compose([
        transforms.Resize(resolution, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(resolution),
        transforms.ToTensor(),
        transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ])


def opened(contents):
    """The RGB image in the bytes of a file."""
    return Image.open(io.BytesIO(contents)).convert("RGB")


def answer(student, probabilities, name, top=5):
    """The JSON that `promptkd classify` gives."""
    best = probabilities.topk(min(top, len(student.classes)))
    pairs = zip(best.values.tolist(), best.indices.tolist())
    return {"file": name, "top": [{"class": student.classes[k], "probability": p} for p, k in pairs]}


if __name__ == "__main__":
    model = Student(sys.argv[1]).eval()
    prepare = preparation(model.resolution)
    with torch.inference_mode():
        for path in sys.argv[2:]:
            with open(path, "rb") as picture:
                image = prepare(opened(picture.read()))
            print(json.dumps(answer(model, model(image[None])[0], path)))
