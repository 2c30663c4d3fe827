#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tasks of bench/step in PyTorch on a GPU, for tests/gpu_check.sh: random weights, the same options, the same fields.

    python3 bench/torch_gpu.py --task promptkd --batch 64 --dtype bf16 --repeat 20

PyTorch gets its usual best: scaled_dot_product_attention, inference mode for what is frozen, class vectors computed once,
autocast for 16 bits, a fused optimizer. Prints one JSON line; seconds are those of a step that ends in a synchronisation.
"""
import argparse
import contextlib
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

# embedding, resolution, patch, then width, layers and heads of the image branch and of the text branch
SIZES = {
    "ViT-B/32": (512, 224, 32, (768, 12, 12), (512, 12, 8)),
    "ViT-B/16": (512, 224, 16, (768, 12, 12), (512, 12, 8)),
    "ViT-L/14": (768, 224, 14, (1024, 24, 16), (768, 12, 12)),
    "tiny": (64, 32, 8, (128, 4, 2), (128, 3, 2)),
}
VOCABULARY, CONTEXT = 49408, 77


def unit(x):
    return F.normalize(x.float(), dim=-1)


class ResidualBlock(nn.Module):
    """Attention and MLP, each behind a LayerNorm and around a residual; `prompts` replace the tokens that `place` names."""

    def __init__(self, width, heads, causal, prompts):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.in_proj, self.out_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.prompts = nn.Parameter(0.02 * torch.randn(prompts, width)) if prompts else None

    def with_prompts(self, x):
        if self.prompts is None:
            return x
        count = len(self.prompts)
        mine = self.prompts.to(x.dtype).expand(len(x), -1, -1)
        if self.causal:
            return torch.cat((x[:, :1], mine, x[:, 1 + count:]), dim=1)
        return torch.cat((x[:, :-count], mine), dim=1)

    def forward(self, x):
        x = self.with_prompts(x)
        images, tokens, width = x.shape
        split = self.in_proj(self.norms[0](x)).reshape(images, tokens, 3, self.heads, -1)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out_proj(heads.transpose(1, 2).reshape(images, tokens, width))
        hidden = self.c_fc(self.norms[1](x))
        return x + self.c_proj(hidden * torch.sigmoid(1.702 * hidden))


def blocks(size, causal, prompts, depth):
    width, layers, heads = size
    return nn.Sequential(*(ResidualBlock(width, heads, causal, prompts if 0 < i < depth else 0) for i in range(layers)))


class ImageBranch(nn.Module):
    def __init__(self, model, prompts=0, depth=0):
        super().__init__()
        embedding, resolution, patch, size, _ = SIZES[model]
        width = size[0]
        self.patches = nn.Conv2d(3, width, patch, patch, bias=False)
        self.start = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn((resolution // patch) ** 2 + 1, width))
        self.prompts = nn.Parameter(0.02 * torch.randn(prompts, width)) if prompts else None
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = blocks(size, False, prompts, depth)
        self.projection = nn.Linear(width, embedding, bias=False)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat((self.start.to(x.dtype).expand(len(x), -1, -1), x), dim=1) + self.position.to(x.dtype)
        if self.prompts is not None:
            x = torch.cat((x, self.prompts.to(x.dtype).expand(len(x), -1, -1)), dim=1)
        return self.projection(self.after(self.blocks(self.before(x))[:, 0]))


class TextBranch(nn.Module):
    def __init__(self, model, prompts=0, depth=0):
        super().__init__()
        embedding, _, _, _, size = SIZES[model]
        width = size[0]
        self.tokens, self.position = nn.Embedding(VOCABULARY, width), nn.Parameter(0.01 * torch.randn(CONTEXT, width))
        self.prompts = nn.Parameter(0.02 * torch.randn(prompts, width)) if prompts else None
        self.blocks, self.after = blocks(size, True, prompts, depth), nn.LayerNorm(width)
        self.projection = nn.Linear(width, embedding, bias=False)

    def forward(self, ids):
        x = self.tokens(ids)
        if self.prompts is not None:
            mine = self.prompts.expand(len(x), -1, -1)
            x = torch.cat((x[:, :1], mine, x[:, 1 + len(self.prompts):]), dim=1)
        x = self.after(self.blocks(x + self.position))
        return self.projection(x[torch.arange(len(x), device=x.device), ids.argmax(dim=-1)])


def texts(count):
    """A start, seven words and an end, padded with zeros."""
    ids = torch.zeros(count, CONTEXT, dtype=torch.long)
    ids[:, 0], ids[:, 8] = VOCABULARY - 2, VOCABULARY - 1
    ids[:, 1:8] = torch.randint(0, 49000, (count, 7))
    return ids.cuda()


def train_only_prompts(module):
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("prompts" in name)
    return [p for p in module.parameters() if p.requires_grad]


def make_step(options, amp):
    images = torch.randn(options.batch, 3, *2 * (SIZES[options.model][1],), device="cuda")
    ids, prompted = texts(options.classes), (options.ctx, options.depth)
    if options.task == "encode_image":
        encoder = ImageBranch(options.model).cuda().eval()

        def encode_image():
            with torch.inference_mode(), amp():
                encoder(images)
        return encode_image
    if options.task == "encode_text":
        encoder = TextBranch(options.model).cuda().eval()

        def encode_text():
            with torch.inference_mode(), amp():
                encoder(ids)
        return encode_text
    if options.task == "promptkd":
        teacher, teacher_text = (B(options.teacher, *prompted).cuda().eval() for B in (ImageBranch, TextBranch))
        student = ImageBranch(options.model, *prompted).cuda()
        wide = SIZES[options.teacher][0]
        projector = nn.Sequential(nn.Linear(SIZES[options.model][0], wide), nn.BatchNorm1d(wide), nn.ReLU(), nn.Linear(wide, wide)).cuda()
        optimizer = torch.optim.SGD(train_only_prompts(student) + list(projector.parameters()), 0.005, 0.9, weight_decay=5e-4, fused=True)
        with torch.no_grad(), amp():
            vectors = unit(teacher_text(ids))

        def distil():
            with torch.inference_mode(), amp():
                wanted = 100 * unit(teacher(images)) @ vectors.T
            with amp():
                features = projector(student(images))
            logits = 100 * unit(features) @ vectors.T
            loss = 1000 * F.kl_div(logits.log_softmax(1), wanted.clone().softmax(1), reduction="sum") / logits.numel()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        return distil

    image, text = ImageBranch(options.model, *prompted).cuda(), TextBranch(options.model, *prompted).cuda()
    frozen = ImageBranch(options.model).cuda().eval()
    optimizer = torch.optim.SGD(train_only_prompts(image) + train_only_prompts(text), 0.0025, 0.9, weight_decay=5e-4, fused=True)
    anchors = unit(torch.randn(options.classes, SIZES[options.model][0], device="cuda"))
    labels = torch.arange(options.batch, device="cuda") % options.classes

    def regulate():
        with torch.no_grad(), amp():
            frozen_image = unit(frozen(images))
        with amp():
            image_features, text_features = unit(image(images)), unit(text(ids))
        logits, anchored = 100 * image_features @ text_features.T, 100 * frozen_image @ anchors.T
        loss = (F.cross_entropy(logits, labels) + 25 * F.l1_loss(text_features, anchors) + 10 * F.l1_loss(image_features, frozen_image)
                + F.kl_div(logits.log_softmax(1), anchored.log_softmax(1), reduction="sum", log_target=True) / logits.numel())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
    return regulate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, choices=["encode_image", "encode_text", "promptkd", "promptsrc"])
    parser.add_argument("--model", default="ViT-B/16", choices=SIZES)
    parser.add_argument("--teacher", default="ViT-L/14", choices=SIZES)
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "tf32", "fp16", "bf16"])
    for name, default in (("batch", 8), ("classes", 100), ("depth", 9), ("ctx", 4), ("repeat", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high" if options.dtype == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = options.dtype == "tf32"
    narrow = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(options.dtype)
    amp = (lambda: torch.autocast("cuda", narrow)) if narrow else contextlib.nullcontext

    step, seconds = make_step(options, amp), []
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    for _ in range(options.repeat):
        begin = time.perf_counter()
        step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({"task": options.task, "model": options.model, "teacher": options.teacher if options.task == "promptkd" else None,
                      "batch": options.batch, "classes": options.classes, "dtype": options.dtype, "seconds_per_step": statistics.median(seconds),
                      "min": min(seconds), "max": max(seconds), "peak_gpu_mb": torch.cuda.max_memory_allocated() >> 20,
                      "torch": torch.__version__, "device": torch.cuda.get_device_name()}))


if __name__ == "__main__":
    main()
