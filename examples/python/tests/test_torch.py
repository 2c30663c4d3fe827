# SPDX-License-Identifier: Apache-2.0
"""Features of images beside a CLIP vision transformer in PyTorch, where that is installed. PROMPTKD_TEST_ASSETS:
examples/assets."""
import json
import os
import struct

import numpy
import pytest

import promptkd

torch = pytest.importorskip("torch")
ASSETS = os.environ["PROMPTKD_TEST_ASSETS"]


def tensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    kinds = {"F16": numpy.float16, "F32": numpy.float32}
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = numpy.frombuffer(data[begin:end], kinds[entry["dtype"]]).astype(numpy.float32)
            found[name] = torch.from_numpy(values.reshape(entry["shape"]))
    return found


def encode_image(t, images):
    """OpenAI's VisionTransformer, on images (n, 3, r, r)."""
    functional = torch.nn.functional
    norm = lambda x, name: functional.layer_norm(x, x.shape[-1:], t[name + ".weight"], t[name + ".bias"])
    linear = lambda x, name, dot=".": functional.linear(x, t[name + dot + "weight"], t[name + dot + "bias"])
    patches = functional.conv2d(images, t["visual.conv1.weight"], stride=t["visual.conv1.weight"].shape[-1])
    x = patches.flatten(2).transpose(1, 2)
    x = torch.cat([t["visual.class_embedding"].expand(len(x), 1, -1), x], 1) + t["visual.positional_embedding"]
    x = norm(x, "visual.ln_pre")
    n, tokens, width = x.shape
    layer = 0
    while f"visual.transformer.resblocks.{layer}.ln_1.weight" in t:
        p = f"visual.transformer.resblocks.{layer}."
        qkv = linear(norm(x, p + "ln_1"), p + "attn.in_proj", "_").view(n, tokens, 3, width // 64, 64)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width)
        x = x + linear(attended, p + "attn.out_proj")
        y = linear(norm(x, p + "ln_2"), p + "mlp.c_fc")
        x = x + linear(y * torch.sigmoid(1.702 * y), p + "mlp.c_proj")
        layer += 1
    return norm(x[:, 0], "visual.ln_post") @ t["visual.proj"]


@pytest.mark.parametrize("which", ["student", "teacher"])
def test_features_of_images(which):
    path = os.path.join(ASSETS, f"fashion_clip_{which}.safetensors")
    clip = promptkd.Clip(path, vocabulary=os.path.join(ASSETS, "fashion_bpe.txt.gz"), threads=1, max_batch=3)
    pixels = numpy.random.default_rng(1).integers(0, 256, (7, clip.resolution, clip.resolution, 3), numpy.uint8)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    images = ((torch.from_numpy(pixels).float() / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        wanted = encode_image(tensors(path), images)
    assert numpy.allclose(clip.encode_image(pixels, normalize=False), wanted.numpy(), atol=2e-4)
    unit = torch.nn.functional.normalize(wanted, dim=-1).numpy()
    assert numpy.abs(clip.encode_image(pixels) - unit).max() < 2e-5
    tensor = torch.from_numpy(pixels)  # a tensor is an array, too
    assert numpy.array_equal(clip.encode_image(tensor), clip.encode_image(pixels))
