#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What leaves the house: sizes of program, shared library, Debian packages and wheel, compiled for every x86-64
# processor; start, time of an image and memory of a student beside ONNX Runtime on the exported file and PyTorch, each
# in a process of its own, in turns. Two tables in Markdown on standard output.
usage="usage: sh bench/deploy.sh [--work DIR] [--bundle FILE] [--python FILE] [--rounds N] [--threads N] [--short]
  --work     folder of builds and models (default build/deploy); what is built is not built again
  --bundle   the student (default: a ViT-B/16 with random weights, by build/release/bench/bundle)
  --python   with pip; for the other engines onnxruntime, torch, torchvision, safetensors and Pillow (default python3):
             an engine that is not there is left out
  --rounds   (default 5)      --threads  of each engine (default 2)
  --short    the demo's small student, one round, nothing built: with what is in --work and build/release"
cd "$(dirname "$0")/.." || exit 1
work=build/deploy
bundle=
python=python3
rounds=5
threads=2
short=no
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) echo "$usage" && exit 0 ;;
    --short) short=yes && shift ;;
    --work | --bundle | --python | --rounds | --threads)
        [ $# -ge 2 ] || { echo "deploy.sh: $1 needs a value" >&2 && exit 2; }
        eval "${1#--}=\$2"
        shift 2
        ;;
    *) echo "deploy.sh: unknown option $1" >&2 && echo "$usage" >&2 && exit 2 ;;
    esac
done
mkdir -p "$work" || exit 1
log=$work/log.txt
: >"$log"
# quietly COMMAND…: its output is in the log; ends everything when it fails
quietly() {
    "$@" >>"$log" 2>&1 && return 0
    echo "deploy.sh: failed: $* (see $log)" >&2
    exit 1
}

build=$work/build
if [ $short = no ]; then
    quietly cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DPROMPTKD_NATIVE=OFF -DPROMPTKD_C_LIBRARY=ON \
        -DPROMPTKD_BUILD_TESTS=OFF -DPROMPTKD_BUILD_BENCH=OFF -DPROMPTKD_CUDA=OFF
    quietly cmake --build "$build" --parallel "$(getconf _NPROCESSORS_ONLN)"
    [ -n "$(ls "$build"/*.deb 2>/dev/null)" ] || quietly sh -c "cd '$build' && cpack -G DEB"
    if [ ! -d "$work/site" ]; then
        quietly "$python" -m pip wheel --no-deps --wheel-dir "$work" examples/python
        quietly "$python" -m pip install --no-deps --target "$work/site" "$work"/promptkd-*.whl
    fi
fi
program=$build/promptkd
[ -x "$program" ] || program=build/release/promptkd
[ -x "$program" ] || { echo "deploy.sh: there is no program; leave --short out, or build it first" >&2 && exit 1; }
library=$(ls "$build"/libpromptkd_c.so 2>/dev/null)

# size TEXT FILE [NOTE]: a row, where the file is there
size() {
    [ -f "$2" ] && printf '| %s | %.1f |\n' "$1" "$(stat -L -c %s "$2" | awk '{ print $1 / 1048576 }')"
}
kind="compiled for every x86-64 processor"
[ $short = no ] || kind="as it lies there"
echo "| $kind | MiB |"
echo "|---|---|"
cp "$program" "$work/stripped" && strip "$work/stripped"
size "the program, stripped" "$work/stripped"
[ -z "$library" ] || { cp -L "$library" "$work/stripped" && strip "$work/stripped" && size "the shared library, stripped" "$work/stripped"; }
for package in "$build"/*.deb "$work"/*.whl; do size "$(basename "$package")" "$package"; done

if [ $short = yes ]; then
    rounds=1
    bundle=$work/short/bundle.safetensors
    assets=examples/assets
    quietly "$program" distill --teacher "$assets/fashion_clip_teacher.safetensors" --student \
        "$assets/fashion_clip_student.safetensors" --vocab "$assets/fashion_bpe.txt.gz" --epochs 1 --depth 3 \
        --data "fashion-mnist:${PROMPTKD_FASHION_MNIST:-/usr/share/datasets/fashion-mnist}" --images 64 --fresh \
        --out "$work/short"
elif [ -z "$bundle" ]; then
    bundle=$work/student.safetensors
    [ -f "$bundle" ] || quietly build/release/bench/bundle "$bundle"
fi
onnx=$work/student.onnx
quietly "$program" export onnx "$bundle" "$onnx"
picture=tests/fixtures/jpeg/full.jpg

PYTHONPATH=$work/site
export PYTHONPATH
results=$work/results.jsonl
: >"$results"
# engine NAME MODULES ARGUMENT…: one process of bench/deploy.py, where Python has its modules
engine() {
    name=$1
    "$python" -c "import $2" 2>/dev/null || { echo "deploy.sh: no $2: $name is left out" >&2 && return 0; }
    shift 2
    "$python" bench/deploy.py "$name" "$@" --threads "$threads" >>"$results" 2>>"$log" || {
        tail -n 3 "$log" >&2
        exit 1
    }
}
# The program itself: from exec to its answer. GNU time is not everywhere.
program_once() {
    "$python" - "$program" "$bundle" "$picture" "$threads" >>"$results" <<'END'
import json, os, resource, subprocess, sys, time
program, bundle, picture, threads = sys.argv[1:]
begin = time.perf_counter()
command = [program, "classify", bundle, picture, "--top", "1", "--threads", threads, "--format", "jsonl"]
best = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["top"][0]
print(json.dumps({"engine": "program", "start_s": round(time.perf_counter() - begin, 3), "import_s": None, "image_ms": None,
                  "peak_MiB": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
                  "best": best["class"], "probability": round(best["probability"], 6)}))
END
}
round=0
while [ $round -lt "$rounds" ]; do
    round=$((round + 1))
    program_once
    [ -z "$library" ] || engine c ctypes "$bundle" "$picture" --library "$library"
    engine python promptkd "$bundle" "$picture"
    engine onnxruntime onnxruntime,PIL "$onnx" "$picture"
    engine torch torch,torchvision,safetensors,PIL "$bundle" "$picture"
done
echo
"$python" - "$results" <<'END'
import json, statistics, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
names = {"program": "promptkd classify", "c": "libpromptkd_c.so (by ctypes)", "python": "Python package",
         "onnxruntime": "ONNX Runtime, exported file", "torch": "PyTorch"}
print("| one image, batch 1 | start to first answer, s | of it imports, s | each further image, ms | peak memory, MiB |")
print("|---|---|---|---|---|")
for engine in dict.fromkeys(row["engine"] for row in rows):
    mine = [row for row in rows if row["engine"] == engine]
    def median(key):
        values = [row[key] for row in mine]
        return "–" if None in values else f"{statistics.median(values):g}"
    print(f"| {names[engine]} | {median('start_s')} | {median('import_s')} | {median('image_ms')} | {median('peak_MiB')} |")
probabilities = [row["probability"] for row in rows]
print(f"largest difference of the best class's probability: {max(probabilities) - min(probabilities):.2g}", file=sys.stderr)
END
