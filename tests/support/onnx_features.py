# SPDX-License-Identifier: Apache-2.0
"""onnx_features.py PROMPTKD FOLDER: every model of FOLDER (NAME beside NAME.expected.safetensors) exported by PROMPTKD,
its features in ONNX Runtime against the expected ones. Exit status 1 and a line for each that differs."""
import json
import os
import struct
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime


def read_safetensors(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    types = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "I32": np.int32}
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__" and entry["dtype"] in types:
            begin, end = entry["data_offsets"]
            values = np.frombuffer(data[8 + size + begin : 8 + size + end], types[entry["dtype"]])
            tensors[name] = values.reshape(entry["shape"])
    return tensors


def features(program, weights, part, precision, inputs):
    command = [program, "export", "onnx", weights, "tower.onnx", "--part", part, "--precision", precision]
    configuration = os.path.splitext(weights)[0] + ".json"
    if os.path.exists(configuration):
        command += ["--model-config", configuration]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        return None, result.stderr.strip()
    onnx.checker.check_model("tower.onnx", full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession("tower.onnx", options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: inputs})[0].astype(np.float64), ""


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


program, folder = sys.argv[1:3]
failed = passed = 0
for expected_file in sorted(os.listdir(folder)):
    name = expected_file.removesuffix(".expected.safetensors")
    if name == expected_file:
        continue
    weights = next(p for p in (name, name + ".pt", name + ".safetensors") if os.path.exists(os.path.join(folder, p)))
    expected = read_safetensors(os.path.join(folder, expected_file))
    for part, given, key in (("image", "images", "image_features"), ("text", "tokens", "text_features")):
        if given not in expected or key not in expected:
            continue
        for precision, bound in (("fp32", 2e-5), ("fp16", 2e-2)):
            inputs = expected[given].astype(np.float32 if part == "image" else np.int64)
            found, why = features(program, os.path.join(folder, weights), part, precision, inputs)
            if found is None and "(CoCa) is not exported" in why:
                continue
            error = np.inf
            if found is not None:
                reference = expected[key].astype(np.float64)
                error = min(np.abs(y - reference).max() for y in (found, unit(found))) / np.abs(reference).max()
            passed += error <= bound
            if not error <= bound:
                failed += 1
                print(f"{name}, {part}, {precision}: relative error {error:.2g} {why}", file=sys.stderr)
print(f"{passed} exports of encoders agree, {failed} do not")
sys.exit(1 if failed or not passed else 0)
