#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A step of an adapted student in PyTorch, as bench/step --task lora and --task full make it: prompts, projector and LoRA
of rank 32, or every weight, of a ViT-B/16 on random weights, from stored targets; AdamW, clipping by the global norm.

    python3 bench/compare.py --peer bench/torch_adapted.py -- --task lora --batch 8 --threads 2 --repeat 3 --dtype fp32

Prints one JSON line for bench/compare.py.
"""
import argparse
import json
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, LAYERS, HEADS, EMBED, TEACHER, RESOLUTION, PATCH, RANK = 768, 12, 12, 512, 768, 224, 16, 32


class Lora(nn.Module):
    """x·Wᵀ + b + (x·Aᵀ)·Bᵀ, W and b frozen."""

    def __init__(self, inputs, outputs, rank):
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, inputs) * inputs**-0.5)
        self.b = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x):
        return self.base(x) + F.linear(F.linear(x, self.a), self.b)


class Block(nn.Module):
    def __init__(self, linear, prompts):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = linear(WIDTH, 3 * WIDTH), linear(WIDTH, WIDTH)
        self.fc, self.proj = linear(WIDTH, 4 * WIDTH), linear(4 * WIDTH, WIDTH)
        self.prompt = nn.Parameter(torch.randn(prompts, WIDTH) * 0.02) if prompts else None

    def forward(self, x):
        batch, tokens, _ = x.shape
        if self.prompt is not None:
            x = torch.cat([x[:, : tokens - len(self.prompt)], self.prompt.expand(batch, -1, -1).to(x.dtype)], 1)
        q, k, v = self.qkv(self.ln_1(x)).view(batch, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, WIDTH)
        x = x + self.out(mixed)
        y = self.fc(self.ln_2(x))
        return x + self.proj(y * torch.sigmoid(1.702 * y))


class Student(nn.Module):
    def __init__(self, linear, prompts, depth):
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.cls = nn.Parameter(torch.randn(WIDTH) * WIDTH**-0.5)
        self.pos = nn.Parameter(torch.randn((RESOLUTION // PATCH) ** 2 + 1, WIDTH) * WIDTH**-0.5, requires_grad=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.prompt = nn.Parameter(torch.randn(prompts, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(Block(linear, prompts if 0 < i < depth else 0) for i in range(LAYERS))
        self.out = nn.Parameter(torch.randn(WIDTH, EMBED) * WIDTH**-0.5)
        self.projector = nn.Sequential(nn.Linear(EMBED, TEACHER), nn.BatchNorm1d(TEACHER), nn.ReLU(),
                                       nn.Linear(TEACHER, TEACHER))

    def forward(self, images):
        x = self.conv(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), 1, -1).to(x.dtype), x], 1) + self.pos.to(x.dtype)
        x = torch.cat([x, self.prompt.expand(len(x), -1, -1).to(x.dtype)], 1)
        x = self.ln_pre(x)
        for block in self.blocks:
            x = block(x)
        return self.projector(self.ln_post(x[:, 0]) @ self.out.to(x.dtype))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, choices=["lora", "full"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--depth", type=int, default=9)
    parser.add_argument("--ctx", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    lora = a.task == "lora"
    student = Student((lambda i, o: Lora(i, o, RANK)) if lora else nn.Linear, a.ctx, a.depth)
    if lora:  # prompts, projector and updates alone
        for name, p in student.named_parameters():
            learned = name.endswith("prompt") or name.startswith("projector") or name.endswith((".a", ".b"))
            p.requires_grad_(learned)
    learned = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, 3e-3, weight_decay=1e-4)
    images = torch.randn(a.batch, 3, RESOLUTION, RESOLUTION)
    targets = torch.randn(a.batch, a.classes)
    vectors = F.normalize(torch.randn(a.classes, TEACHER), dim=-1)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=a.dtype == "bf16"):
            features = student(images)
        logits = 100 * F.normalize(features.float(), dim=-1) @ vectors.T
        loss = F.kl_div(logits.log_softmax(1), targets.softmax(1), reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1)
        optimizer.step()

    step()
    times = []
    for _ in range(a.repeat):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    print(json.dumps({"task": a.task, "batch": a.batch, "dtype": a.dtype, "threads": a.threads,
                      "seconds_per_step": statistics.median(times), "min": min(times), "max": max(times),
                      "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                      "torch": torch.__version__}))


if __name__ == "__main__":
    main()
