#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What only a GPU can show: builds for the GPU of this machine, runs every typed test and golden case on the Cuda device, NVIDIA's
# checkers, the demo and the benchmarks, and prints a page of results.
usage="usage: sh tests/gpu_check.sh [--stage N] [--out DIR]
       sh tests/gpu_check.sh --compile-only ARCHITECTURE [--stage N] [--out DIR]
       sh tests/gpu_check.sh --pack DIR
  --stage N   only stage N (1 build tests, 2 build programs, 3 tests, 4 golden cases, 5 checkers, 6 demo, 7 benchmarks, 8 the
              same in PyTorch where python3 has it); each is meant to take at most 8 minutes on 16 cores, and a stage that has
              passed is not repeated
  --compile-only A stages 1 and 2 alone, for compute capability A (90, say), on a machine without a GPU
  --out DIR   build and results (default: build/gpu)
  --pack DIR  copies sources and the Debian packages that the build needs into DIR, for a machine without network that has the
              CUDA toolkit, cmake and g++; there: sh DIR/promptkd/tests/gpu_check.sh
All stages need half an hour, most of it for the compiler. bench/gpu/run.sh runs stages 3 and 4 and, in place of 7 and 8, a table
of ours beside PyTorch within minutes, from programs that were built without a GPU (its --build is stages 1 and 2 for compute
capability 9.0)."
stage=all
out=
pack=
compile_only=
while [ $# -gt 0 ]; do
    case $1 in
    --stage) stage=${2:?$usage} && shift ;;
    --out) out=${2:?$usage} && shift ;;
    --compile-only) compile_only=${2:?$usage} && shift ;;
    --pack) pack=${2:?$usage} && shift ;;
    -h | --help) echo "$usage" && exit 0 ;;
    *) echo "gpu_check.sh: unknown option $1" >&2 && echo "$usage" >&2 && exit 2 ;;
    esac
    shift
done
case $stage in all | [1-8]) ;; *) echo "gpu_check.sh: there is no stage $stage" >&2 && exit 2 ;; esac
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
cd "$root" || exit 1

# --- pack ------------------------------------------------------------------------------------------------------------
# Headers, libraries and CMake files of the packages, in the folders they have on this machine.
pack_packages="libeigen3-dev doctest-dev nlohmann-json3-dev libcli11-dev libstb-dev zlib1g-dev zlib1g libzip-dev libzip4
libspng-dev libspng0 libdeflate-dev libdeflate0 libxxhash-dev libutf8proc-dev libutf8proc2 libbz2-1.0 liblzma5 libzstd1 libssl-dev libssl3 dataset-fashion-mnist"
if [ -n "$pack" ]; then
    mkdir -p "$pack/promptkd" "$pack/packages" || exit 1
    tar -cf - --exclude=./build --exclude=./.git . | tar -xf - -C "$pack/promptkd" || exit 1
    for package in $pack_packages; do
        dpkg -L "$package" 2>/dev/null | while read -r file; do
            case $file in */doc/* | */man/* | */engines* | *.a) ;; *) [ -f "$file" ] && echo ".$file" ;; esac
        done
    done | sort -u >"$pack/packages.list"
    tar -C / -cf - -T "$pack/packages.list" | tar -xf - -C "$pack/packages" || exit 1
    # Links between libraries are absolute in some packages.
    find "$pack/packages" -type l | while read -r link; do
        target=$(readlink "$link")
        case $target in /*) ln -sf "$(basename "$target")" "$link" && cp -n "$target" "$(dirname "$link")/" ;; esac
    done
    # The first 12,000 training images are enough for the demo: IDX files with another count in their headers.
    data=$pack/packages/usr/share/datasets/fashion-mnist
    full=/usr/share/datasets/fashion-mnist
    { printf '\0\0\010\003\0\0\056\340\0\0\0\034\0\0\0\034' && gzip -dc $full/train-images-idx3-ubyte.gz | tail -c +17 | head -c 9408000; } |
        gzip -9 >"$data/train-images-idx3-ubyte.gz"
    { printf '\0\0\010\001\0\0\056\340' && gzip -dc $full/train-labels-idx1-ubyte.gz | tail -c +9 | head -c 12000; } |
        gzip -9 >"$data/train-labels-idx1-ubyte.gz"
    du -sm "$pack" | awk '{ print "packed " $1 " MiB in " $2; exit $1 > 60 }' || {
        echo "more than 60 MiB" >&2
        exit 1
    }
    exit 0
fi

# --- this machine ----------------------------------------------------------------------------------------------------
out=${out:-$root/build/gpu}
mkdir -p "$out" || exit 1
if [ -n "$compile_only" ]; then
    gpu=none
    architecture=$compile_only
    stages="1 2"
else
    command -v nvidia-smi >/dev/null 2>&1 || {
        echo "gpu_check.sh: no NVIDIA GPU here (nvidia-smi was not found); --compile-only 90 compiles without one" >&2
        exit 1
    }
    gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
    architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
    stages="1 2 3 4 5 6 7 8"
fi
case $architecture in '' | *[!0-9]*)
    echo "gpu_check.sh: '$architecture' is no compute capability (90, say)" >&2
    exit 1
    ;;
esac
CUDACXX=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
[ -x "$CUDACXX" ] || {
    echo "gpu_check.sh: no nvcc found; put it into PATH or into the environment variable CUDACXX" >&2
    exit 1
}
export CUDACXX
cores=$(getconf _NPROCESSORS_ONLN || echo 1)
packages=$(cd "$root/../packages" 2>/dev/null && pwd)
if [ -n "$packages" ]; then
    LD_LIBRARY_PATH="$packages/usr/lib/x86_64-linux-gnu:$packages/lib/x86_64-linux-gnu:${LD_LIBRARY_PATH:-}"
    export LD_LIBRARY_PATH
fi
fashion=/usr/share/datasets/fashion-mnist
[ -d "$fashion" ] || fashion=$packages$fashion

build() {
    cmake -S "$root" -B "$out/build" -DCMAKE_BUILD_TYPE=Release -DPROMPTKD_CUDA=ON -DPROMPTKD_MPI=OFF \
        "-DCMAKE_CUDA_ARCHITECTURES=$architecture-real" ${packages:+"-DCMAKE_PREFIX_PATH=$packages/usr;$packages"} || return 1
    cmake --build "$out/build" --parallel "$cores" --target "$@"
}
program() { find "$out/build" -type f -name "$1" -perm -u+x | head -n 1; }

stage_1() { build unit_tests_cuda golden_test_cuda; }
stage_2() { build promptkd bench_step_cuda; }
stage_3() { "$(program unit_tests_cuda)"; }
stage_4() { PROMPTKD_OFFLINE=1 PROMPTKD_VERBOSE=1 "$(program golden_test_cuda)"; }
stage_5() {
    sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
    [ -x "$sanitizer" ] || {
        echo "compute-sanitizer is not installed: stage 5 was not run"
        return 0
    }
    for tool in memcheck racecheck synccheck; do
        "$sanitizer" --tool $tool --error-exitcode 1 "$(program unit_tests_cuda)" \
            --test-case="gelu*,relu*,layer norm*,normalisation*,batch norm*,attention*,prompts*,products: bias*,distillation*,cross*" || return 1
    done
}
stage_6() {
    "$(program promptkd)" demo --device cuda --data "fashion-mnist:$fashion" --out "$out/demo" --json "$out/demo.json"
}
stage_7() {
    step=$(program step_cuda)
    : >"$out/bench.jsonl"
    for task in encode_image encode_text promptkd promptsrc; do
        for dtype in fp32 tf32 fp16 bf16; do
            for batch in 8 64 256; do
                [ "$task" = encode_text ] && [ $batch -ne 8 ] && continue
                "$step" --task $task --model ViT-B/16 --teacher ViT-L/14 --batch $batch --classes 100 --dtype $dtype --repeat 10 \
                    >>"$out/bench.jsonl" || return 1
                [ $task = promptkd ] || continue
                "$step" --task $task --graph --model ViT-B/16 --teacher ViT-L/14 --batch $batch --classes 100 --dtype $dtype --repeat 10 \
                    >>"$out/bench.jsonl" || return 1
            done
        done
    done
    cat "$out/bench.jsonl"
}
stage_8() {
    : >"$out/torch.jsonl"
    python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null || {
        echo "python3 has no PyTorch with CUDA: stage 8 was not run"
        return 0
    }
    for task in encode_image encode_text promptkd promptsrc; do
        for dtype in fp32 tf32 bf16; do
            for batch in 8 64 256; do
                [ "$task" = encode_text ] && [ $batch -ne 8 ] && continue
                python3 bench/torch_gpu.py --task $task --model ViT-B/16 --teacher ViT-L/14 --batch $batch --classes 100 --dtype $dtype \
                    --repeat 10 >>"$out/torch.jsonl" || return 1
            done
        done
    done
    cat "$out/torch.jsonl"
}

failed=no
for n in $stages; do
    [ "$stage" = all ] || [ "$stage" = $n ] || continue
    log=$out/stage$n.log
    if [ -f "$out/stage$n.passed" ] && [ "$stage" = all ]; then continue; fi
    rm -f "$out/stage$n.passed"
    start=$(date +%s)
    if stage_$n >"$log" 2>&1; then
        echo "stage $n: passed in $(($(date +%s) - start)) s"
        echo "$(($(date +%s) - start))" >"$out/stage$n.passed"
    else
        echo "stage $n: FAILED; the end of $log:" && tail -n 15 "$log"
        failed=yes
        break
    fi
done

# --- one page and one JSON ---------------------------------------------------------------------------------------------
{
    echo "GPU: $gpu (compute capability $architecture)"
    for n in 1 2 3 4 5 6 7 8; do
        [ -f "$out/stage$n.passed" ] && echo "stage $n passed in $(cat "$out/stage$n.passed") s" || echo "stage $n has not passed"
    done
    grep -h 'test cases:' "$out/stage3.log" 2>/dev/null
    grep -h ' cases, ' "$out/stage4.log" 2>/dev/null
    cat "$out/bench.jsonl" "$out/torch.jsonl" 2>/dev/null
} >"$out/summary.txt"
{
    printf '{"gpu": "%s", "compute_capability": %s, "stages_passed": [' "$gpu" "$architecture"
    separator=
    for n in 1 2 3 4 5 6 7 8; do
        [ -f "$out/stage$n.passed" ] && printf '%s%s' "$separator" $n && separator=', '
    done
    printf '], "bench": ['
    cat "$out/bench.jsonl" "$out/torch.jsonl" 2>/dev/null | paste -s -d , -
    printf ']}\n'
} >"$out/result.json"
cat "$out/summary.txt"
[ $failed = no ]
