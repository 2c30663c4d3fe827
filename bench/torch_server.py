#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A FastAPI server of a student bundle in PyTorch (torch_student.py), the peer of `promptkd classify --serve`:

    python3 bench/torch_server.py BUNDLE --port 8000 --threads 2

POST /classify takes the bytes of an image; requests are decoded in a pool of threads, and the model runs for one at a
time with all its threads. Needs fastapi and uvicorn besides.
"""
import argparse
import threading

import fastapi
import torch
import uvicorn
from fastapi.concurrency import run_in_threadpool

import torch_student

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("bundle")
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--threads", type=int, default=2)
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)
model = torch_student.Student(arguments.bundle).eval()
prepare = torch_student.preparation(model.resolution)
alone = threading.Lock()
app = fastapi.FastAPI()


def classified(contents):
    image = prepare(torch_student.opened(contents))
    with alone, torch.inference_mode():
        return torch_student.answer(model, model(image[None])[0], "image")


@app.post("/classify")
async def classify(request: fastapi.Request):
    return await run_in_threadpool(classified, await request.body())


@app.get("/healthz")
def healthz():
    return {"status": "ok"}


uvicorn.run(app, port=arguments.port, log_level="warning")
