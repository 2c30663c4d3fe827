#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `classify --serve` beside a FastAPI + PyTorch server of the same student: requests a second and times of a request, as
# Markdown on standard output.
usage="usage: sh bench/serve.sh [--program FILE] [--bundle FILE] [--python FILE] [--clients LIST] [--seconds N] [--threads N] [--short]
  --program  the promptkd to run (default build/release/promptkd)
  --bundle   the student (default: a ViT-B/16 with random weights, by build/release/bench/bundle)
  --python   with torch, torchvision, safetensors, Pillow, fastapi and uvicorn (default python3); without them promptkd
             alone is measured
  --clients  at a time (default 1,8,64)      --seconds  of each measurement (default 20)
  --threads  of either server (default 2)    --short    the demo's small student, two seconds each: whether it works"
cd "$(dirname "$0")/.." || exit 1
program=build/release/promptkd
bundle=
python=python3
clients=1,8,64
seconds=20
threads=2
short=no
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) echo "$usage" && exit 0 ;;
    --short) short=yes && shift ;;
    --program | --bundle | --python | --clients | --seconds | --threads)
        [ $# -ge 2 ] || { echo "serve.sh: $1 needs a value" >&2 && exit 2; }
        eval "${1#--}=\$2"
        shift 2
        ;;
    *) echo "serve.sh: unknown option $1" >&2 && echo "$usage" >&2 && exit 2 ;;
    esac
done
[ -x "$program" ] || { echo "serve.sh: there is no program $program; build it first" >&2 && exit 1; }
work=$(mktemp -d)
server=
stop() {
    [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null
    server=
}
trap 'stop; rm -rf "$work"' EXIT
assets=examples/assets
if [ $short = yes ]; then
    seconds=2
    bundle=$work/student/bundle.safetensors
    "$program" distill --teacher "$assets/fashion_clip_teacher.safetensors" --student \
        "$assets/fashion_clip_student.safetensors" --vocab "$assets/fashion_bpe.txt.gz" --epochs 1 --depth 3 \
        --data "fashion-mnist:${PROMPTKD_FASHION_MNIST:-/usr/share/datasets/fashion-mnist}" --images 64 \
        --out "$work/student" >"$work/log" 2>&1 || { tail -n 3 "$work/log" >&2 && exit 1; }
elif [ -z "$bundle" ]; then
    bundle=$work/student.safetensors
    build/release/bench/bundle "$bundle" || exit 1
fi
picture=tests/fixtures/jpeg/full.jpg
if "$python" -c 'import PIL' 2>/dev/null; then # of the size that photos have in data sets
    picture=$work/photo.jpg
    "$python" -c 'import random, sys
from PIL import Image
random.seed(1)
small = Image.frombytes("RGB", (20, 15), bytes(random.randrange(256) for _ in range(900)))
small.resize((500, 375), Image.BICUBIC).save(sys.argv[1], quality=90)' "$picture"
fi

# ready ADDRESS: waits until the server there answers
ready() {
    python3 - "$1" "$server" <<'END'
import sys, time, urllib.request
def lives():
    return open("/proc/" + sys.argv[2] + "/stat").read().rsplit(") ", 1)[1][0] != "Z"
while lives():
    try:
        sys.exit(urllib.request.urlopen(sys.argv[1] + "/healthz").status != 200)
    except OSError:
        time.sleep(0.1)
sys.exit("serve.sh: the server at " + sys.argv[1] + " has ended")
END
}
# measure NAME ADDRESS: a row for each number of clients
measure() {
    ready "$2" || { tail -n 3 "$work/err" >&2 && exit 1; }
    for n in $(echo "$clients" | tr , ' '); do
        python3 bench/http_load.py "$2" "$picture" --clients "$n" --seconds "$seconds" >"$work/row" || exit 1
        python3 -c 'import json, sys
row = json.load(open(sys.argv[2]))
print("| {} | {clients} | {requests_per_second} | {p50_ms} | {p99_ms} | {refused} |".format(sys.argv[1], **row))' \
            "$1" "$work/row"
    done
    stop
}
# the most likely class and its probability, of a line of JSON
best() { sed 's/.*"top": *\[{"class": *"\([^"]*\)", *"probability": *\([0-9.e-]*\).*/\1 \2/'; }

echo "| server | clients | requests/s | p50, ms | p99, ms | refused |"
echo "|---|---|---|---|---|---|"
"$program" classify "$bundle" --serve 0 --threads "$threads" --max-waiting 128 --max-seconds 60 >"$work/out" 2>"$work/err" &
server=$!
until grep -q '^listening' "$work/out"; do
    kill -0 $server 2>/dev/null || { cat "$work/err" >&2 && exit 1; }
    sleep 0.1
done
measure promptkd "$(sed -n 's/^listening on \([^ ]*\): .*/\1/p' "$work/out")"
if ! "$python" -c 'import fastapi, uvicorn, torch, torchvision, safetensors' 2>/dev/null; then
    echo "serve.sh: $python lacks torch, torchvision, safetensors, fastapi or uvicorn: its server is not measured" >&2
    exit 0
fi
ours=$("$program" classify "$bundle" "$picture" --format jsonl | best)
theirs=$("$python" bench/torch_student.py "$bundle" "$picture" | best)
echo "both servers on the same image: $ours; $theirs" >&2
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$python" bench/torch_server.py "$bundle" --port "$port" --threads "$threads" >"$work/out" 2>"$work/err" &
server=$!
measure "FastAPI + PyTorch" "http://127.0.0.1:$port"
