#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tasks of bench/step in PyTorch on a GPU: random weights, the same options, the same fields.

    python3 bench/torch_gpu.py --task promptkd --batch 64 --dtype bf16 --mode compiled --repeat 30
    python3 bench/torch_gpu.py --task promptkd --batch 64 --dtype bf16 --mode eager --serve
    python3 bench/torch_gpu.py --task encode_image --model ViT-H/14 --device cpu --threads 2
    python3 bench/torch_gpu.py --device cpu --self-test

As PyTorch's best user would write it: frozen weights in 16 bits without autocast (what is trained stays in 32), attention
by scaled_dot_product_attention, nothing behind the longest text, class vectors computed once, no gradients for what is
frozen, a fused optimizer; --mode compiled: torch.compile(mode="max-autotune"), which records CUDA graphs.
Prints one JSON line; seconds are those of a step that ends in a synchronisation. --serve: sets up and compiles once, prints
{"ready": true}, then answers each line `measure N` with {"seconds": [N numbers], …} after an untimed one, as
bench/step --serve does.
"""
import argparse
import json
import os
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

# embedding, resolution, patch, then width, layers and heads of the image branch and of the text branch
SIZES = {
    "ViT-B/32": (512, 224, 32, (768, 12, 12), (512, 12, 8)),
    "ViT-B/16": (512, 224, 16, (768, 12, 12), (512, 12, 8)),
    "ViT-L/14": (768, 224, 14, (1024, 24, 16), (768, 12, 12)),
    "ViT-H/14": (1024, 224, 14, (1280, 32, 16), (1024, 24, 16)),
    "tiny": (64, 32, 8, (128, 4, 2), (128, 3, 2)),
}
VOCABULARY, CONTEXT = 49408, 77
LOGIT_SCALE = 100
KD_WEIGHT = 1000
TEXT_WEIGHT, IMAGE_WEIGHT = 25, 10
UNTIMED_STEPS = 1
NARROW = {"fp16": torch.float16, "bf16": torch.bfloat16}


def unit(x):
    return F.normalize(x.float(), dim=-1)


# --- the model -------------------------------------------------------------------------------------------------------
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
        x = self.patches(images.to(self.patches.weight.dtype)).flatten(2).transpose(1, 2)
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
            mine = self.prompts.to(x.dtype).expand(len(x), -1, -1)
            x = torch.cat((x[:, :1], mine, x[:, 1 + len(self.prompts):]), dim=1)
        x = self.after(self.blocks(x + self.position[:ids.shape[1]]))
        return self.projection(x[torch.arange(len(x), device=x.device), ids.argmax(dim=-1)])


# --- losses ----------------------------------------------------------------------------------------------------------
def distillation_loss(logits, wanted):
    """PromptKD: KD_WEIGHT · Σ p_t (log p_t − log p_s) / (images · classes) at temperature 1."""
    return KD_WEIGHT * F.kl_div(logits.log_softmax(1), wanted.softmax(1), reduction="sum") / logits.numel()


def regulated_loss(image, text, frozen_image, frozen_text, labels):
    """PromptSRC: cross-entropy + 25 · mean|w − w_frozen| + 10 · mean|u − u_frozen| + KL(p_frozen ‖ p) / (images · classes)."""
    logits, frozen = LOGIT_SCALE * image @ text.T, LOGIT_SCALE * frozen_image @ frozen_text.T
    divergence = F.kl_div(logits.log_softmax(1), frozen.log_softmax(1), reduction="sum", log_target=True) / logits.numel()
    return (F.cross_entropy(logits, labels) + TEXT_WEIGHT * F.l1_loss(text, frozen_text)
            + IMAGE_WEIGHT * F.l1_loss(image, frozen_image) + divergence)


# --- the tasks -------------------------------------------------------------------------------------------------------
def make_texts(options):
    """A start, seven words and an end, padded with zeros; what is behind the longest text has no influence and is left out."""
    ids = torch.zeros(options.classes, CONTEXT, dtype=torch.long)
    ids[:, 0], ids[:, 8] = VOCABULARY - 2, VOCABULARY - 1
    ids[:, 1:8] = torch.randint(0, 49000, (options.classes, 7))
    length = CONTEXT if options.full_text else int(ids.argmax(dim=1).max()) + 1
    return ids[:, :length].contiguous().to(options.device)


def make_branch(options, Branch, model, prompted=False, trained=False):
    """A branch with frozen weights in the type of --dtype. Its prompts stay in fp32; they alone are trained."""
    branch = Branch(model, *((options.ctx, options.depth) if prompted else ())).to(options.device)
    for name, parameter in branch.named_parameters():
        is_prompt = "prompts" in name
        parameter.requires_grad_(trained and is_prompt)
        if not is_prompt:
            parameter.data = parameter.data.to(NARROW.get(options.dtype, torch.float32))
    return branch


def make_images(options):
    return torch.randn(options.batch, 3, *2 * (SIZES[options.model][1],), device=options.device)


def trained_parameters(*modules):
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def compiled(options, function):
    """`function`, compiled if --mode says so; its recorded graphs may start anew with every call."""
    if options.mode == "eager":
        return function
    fast = torch.compile(function, mode=options.compile_mode, fullgraph=True, dynamic=False)

    def call():
        torch.compiler.cudagraph_mark_step_begin()
        return fast()
    return call


class Training:
    """One step of SGD on `loss_of`, which may be compiled; the fused optimizer is a launch or two."""

    def __init__(self, options, loss_of, parameters, rate):
        self.loss_of = compiled(options, loss_of)
        self.optimizer = torch.optim.SGD(parameters, rate, 0.9, weight_decay=5e-4, fused=True)

    def __call__(self):
        self.optimizer.zero_grad()
        loss = self.loss_of()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def make_encoding(options, Branch, make_input):
    branch, given = make_branch(options, Branch, options.model).eval(), make_input(options)
    encode = compiled(options, lambda: branch(given))
    frozen = torch.inference_mode if options.mode == "eager" else torch.no_grad

    def step():
        with frozen():
            return encode()
    return step


def make_promptkd(options):
    images = make_images(options)
    teacher, teacher_text = (make_branch(options, B, options.teacher, prompted=True).eval() for B in (ImageBranch, TextBranch))
    student = make_branch(options, ImageBranch, options.model, prompted=True, trained=True)
    wide = SIZES[options.teacher][0]
    projector = nn.Sequential(nn.Linear(SIZES[options.model][0], wide), nn.BatchNorm1d(wide), nn.ReLU(), nn.Linear(wide, wide))
    projector.to(options.device)
    with torch.no_grad():
        vectors = unit(teacher_text(make_texts(options)))

    def loss_of():
        with torch.no_grad():
            wanted = LOGIT_SCALE * unit(teacher(images)) @ vectors.T
        logits = LOGIT_SCALE * unit(projector(student(images).float())) @ vectors.T
        return distillation_loss(logits, wanted)
    return Training(options, loss_of, trained_parameters(student, projector), 0.005)


def make_promptsrc(options):
    images, ids = make_images(options), make_texts(options)
    image, text = (make_branch(options, B, options.model, prompted=True, trained=True) for B in (ImageBranch, TextBranch))
    frozen = make_branch(options, ImageBranch, options.model).eval()
    anchors = unit(torch.randn(options.classes, SIZES[options.model][0], device=options.device))
    labels = torch.arange(options.batch, device=options.device) % options.classes

    def loss_of():
        with torch.no_grad():
            frozen_image = unit(frozen(images))
        return regulated_loss(unit(image(images)), unit(text(ids)), frozen_image, anchors, labels)
    return Training(options, loss_of, trained_parameters(image, text), 0.0025)


TASKS = {
    "encode_image": lambda options: make_encoding(options, ImageBranch, make_images),
    "encode_text": lambda options: make_encoding(options, TextBranch, make_texts),
    "promptkd": make_promptkd,
    "promptsrc": make_promptsrc,
}


# --- measuring -------------------------------------------------------------------------------------------------------
def synchronize(options):
    if options.device == "cuda":
        torch.cuda.synchronize()


def measure(options, step, count, untimed=UNTIMED_STEPS):
    for _ in range(untimed):
        step()
    synchronize(options)
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        step()
        synchronize(options)
        seconds.append(time.perf_counter() - begin)
    return seconds


def reset_memory(options):
    """Gives back what compiling took, and what other programs may need while this one waits."""
    if options.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def facts(options):
    """Peak memory: that of all tensors; recorded graphs keep theirs as reserved memory."""
    if options.device != "cuda":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        return {"peak_rss_mb": peak, "torch": torch.__version__, "device": "cpu"}
    peak = torch.cuda.max_memory_allocated if options.mode == "eager" else torch.cuda.max_memory_reserved
    return {"peak_gpu_mb": peak() >> 20, "torch": torch.__version__, "device": torch.cuda.get_device_name()}


def serve(options, step, answers):
    """The protocol of serve() in bench/support/measure.hpp."""
    def answer(fields):
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    answer({"ready": True})
    for line in sys.stdin:
        verb, _, count = line.strip().partition(" ")
        if verb != "measure" or not count.isdigit() or int(count) == 0:
            sys.exit(f"torch_gpu.py: --serve: '{line.strip()}' is no request; expected: measure N")
        seconds = measure(options, step, int(count))
        answer({"seconds": seconds, **facts(options)})
        reset_memory(options)


def report(options, seconds):
    return {"task": options.task, "model": options.model, "teacher": options.teacher if options.task == "promptkd" else None,
            "batch": options.batch, "classes": options.classes, "dtype": options.dtype, "mode": options.mode,
            "seconds_per_step": statistics.median(seconds), "min": min(seconds), "max": max(seconds), **facts(options)}


# --- self-test: small models on the CPU against the formulas, written out once more ------------------------------------
def expect_close(what, got, want, tolerance=1e-4):
    got, want = torch.as_tensor(got).double(), torch.as_tensor(want).double()
    error = float((got - want).abs().max() / want.abs().max().clamp_min(1e-30))
    if not error <= tolerance:
        sys.exit(f"torch_gpu.py: self-test: {what}: relative difference {error:.2g}, allowed {tolerance:.2g}")
    print(f"ok  {what} ({error:.1e})")


def plain_block(block, x):
    """The formulas of a residual block, without any of its forward code."""
    images, tokens, width = x.shape
    if block.prompts is not None:
        x = x.clone()
        count = len(block.prompts)
        first = 1 if block.causal else tokens - count
        x[:, first:first + count] = block.prompts
    size = width // block.heads
    q, k, v = (t.reshape(images, tokens, block.heads, size) for t in block.in_proj(block.norms[0](x)).split(width, dim=2))
    scores = torch.einsum("bqhc,bkhc->bhqk", q, k) / size ** 0.5
    if block.causal:
        scores = scores.masked_fill(torch.ones(tokens, tokens).triu(1).bool(), float("-inf"))
    mixed = torch.einsum("bhqk,bkhc->bqhc", scores.softmax(-1), v).reshape(images, tokens, width)
    x = x + block.out_proj(mixed)
    hidden = block.c_fc(block.norms[1](x))
    return x + block.c_proj(hidden / (1 + torch.exp(-1.702 * hidden)))


def plain_image(branch, images):
    kernel = branch.patches.weight
    patches = F.unfold(images, kernel.shape[2:], stride=kernel.shape[2:]).transpose(1, 2) @ kernel.flatten(1).T
    x = torch.cat((branch.start.expand(len(images), 1, -1), patches), dim=1) + branch.position
    if branch.prompts is not None:  # behind the patches, without a position, before the first LayerNorm
        x = torch.cat((x, branch.prompts.expand(len(images), -1, -1)), dim=1)
    x = branch.before(x)
    for block in branch.blocks:
        x = plain_block(block, x)
    return branch.after(x[:, 0]) @ branch.projection.weight.T


def plain_text(branch, ids):
    x = branch.tokens(ids)
    if branch.prompts is not None:  # in place of the tokens behind the start
        x = x.clone()
        x[:, 1:1 + len(branch.prompts)] = branch.prompts
    x = x + branch.position[:ids.shape[1]]
    for block in branch.blocks:
        x = plain_block(block, x)
    return branch.after(x)[torch.arange(len(ids)), ids.argmax(dim=1)] @ branch.projection.weight.T


def check_losses():
    logits, wanted = 5 * torch.randn(3, 4).double(), 5 * torch.randn(3, 4).double()
    p, q = (t.exp() / t.exp().sum(1, keepdim=True) for t in (wanted, logits))
    total = sum(float(p[b, n] * (p[b, n].log() - q[b, n].log())) for b in range(3) for n in range(4))
    expect_close("PromptKD's loss", distillation_loss(logits, wanted), 1000 * total / 12)

    image, frozen_image = (F.normalize(torch.randn(3, 6).double(), dim=1) for _ in range(2))
    text, frozen_text = (F.normalize(torch.randn(4, 6).double(), dim=1) for _ in range(2))
    labels = torch.tensor([2, 0, 3])
    p = (100 * frozen_image @ frozen_text.T).softmax(1)
    q = (100 * image @ text.T).softmax(1)
    wanted = (-q[range(3), labels].log().mean() + 25 * (text - frozen_text).abs().sum() / 24
              + 10 * (image - frozen_image).abs().sum() / 18 + (p * (p.log() - q.log())).sum() / 12)
    expect_close("PromptSRC's loss", regulated_loss(image, text, frozen_image, frozen_text, labels), wanted)


def check_branches(options):
    options.full_text = True
    ids = make_texts(options)
    for prompted in (False, True):
        image, text = (make_branch(options, B, options.model, prompted) for B in (ImageBranch, TextBranch))
        given, what = make_images(options), "with prompts" if prompted else "without prompts"
        with torch.no_grad():
            expect_close(f"image branch {what}", image(given), plain_image(image, given))
            expect_close(f"text branch {what}", text(ids), plain_text(text, ids))
            expect_close(f"text branch {what}, nothing behind the longest text", text(ids[:, :9]), text(ids))
    options.full_text = False


def check_training(options, task, rate):
    """The first step moves what is trained by −rate · (gradient + weight decay · value), and the loss falls."""
    torch.manual_seed(1)
    options.task = task
    training = TASKS[task](options)
    parameters = [p for group in training.optimizer.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in parameters]
    first = training()
    for p, old in zip(parameters, before):
        expect_close(f"{task}: the first step of {tuple(p.shape)}", p.detach(), old - rate * (p.grad + 5e-4 * old))
    losses = [first] + [training() for _ in range(8)]
    print(f"    losses {', '.join(f'{loss:.4g}' for loss in losses)}")
    if not (min(losses) < losses[0] and all(loss == loss for loss in losses)):
        sys.exit(f"torch_gpu.py: self-test: {task}: the loss does not fall: {losses}")
    return first


def self_test(options):
    options.model, options.teacher, options.batch, options.classes = "tiny", "tiny", 4, 5
    options.depth, options.ctx, options.dtype = 3, 2, "fp32"
    check_losses()
    check_branches(options)
    for task, rate in (("promptkd", 0.005), ("promptsrc", 0.0025)):
        options.mode = "eager"
        eager = check_training(options, task, rate)
        if options.self_test_compiled:
            options.mode = "compiled"
            expect_close(f"{task}: the first loss, compiled", check_training(options, task, rate), eager)
    print("torch_gpu.py: self-test passed")


# --- the program -----------------------------------------------------------------------------------------------------
def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS)
    parser.add_argument("--model", default="ViT-B/16", choices=SIZES)
    parser.add_argument("--teacher", default="ViT-L/14", choices=SIZES)
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "tf32", "fp16", "bf16"])
    for name, default in (("batch", 8), ("classes", 100), ("depth", 9), ("ctx", 4), ("repeat", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--threads", type=int, default=2, help="with --device cpu")
    parser.add_argument("--mode", default="eager", choices=["eager", "compiled"])
    parser.add_argument("--compile-mode", default="max-autotune", help="the mode of torch.compile")
    parser.add_argument("--full-text", action="store_true", help="all 77 tokens of every text, as the published code has them")
    parser.add_argument("--serve", action="store_true", help="set up once, then answer lines `measure N`")
    parser.add_argument("--self-test", action="store_true", help="check losses, branches and steps of small models")
    parser.add_argument("--self-test-compiled", action="store_true", help="the same, and that compiling changes nothing")
    options = parser.parse_args()
    options.self_test |= options.self_test_compiled
    if not options.self_test and not options.task:
        parser.error("--task is required")
    return options


def main():
    options = parse_options()
    torch.manual_seed(0)
    if options.device == "cpu":
        torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision("highest" if options.dtype == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = options.dtype != "fp32"
    torch.backends.cudnn.benchmark = True
    if options.self_test:
        return self_test(options)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # compilers print to standard output, too
    step = TASKS[options.task](options)
    if options.device == "cuda":
        measure(options, step, 1, untimed=5)  # compiles, and records graphs at the second or third call
    reset_memory(options)
    if options.serve:
        return serve(options, step, answers)
    answers.write(json.dumps(report(options, measure(options, step, options.repeat))) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
