#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The GPU's tests and the table beside PyTorch in one call of a few minutes, from programs that were built elsewhere.
usage="usage: sh bench/gpu/run.sh --build [DIR] [--programs \"NAME…\"]
       sh bench/gpu/run.sh [DIR] [--out OUT] [--only tests|table] [--seconds N] [--batches LIST] [--tasks LIST]
  --build       on a machine with nvcc, no GPU needed: builds the programs for compute capability 9.0 and packs them with the
                libraries they need beyond glibc and CUDA into DIR/programs.tar.xz; what is built stays in DIR.build
  --programs    what to build (default: step_cuda unit_tests_cuda golden_test_cuda; promptkd is another)
  DIR           default: build/gpu-run
  otherwise     on a machine with an H100 or H200, the CUDA libraries, python3 and PyTorch, no network needed:
  --out OUT     result.json, table.md and logs (default: DIR.out)
  --only        tests: only those; table: only that
  --seconds N   all of it takes no longer (default: 300)
  --batches     in this order (default: 64,256,8)
  --tasks       only these: encode_image,encode_text,promptkd,promptsrc"
root=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
mode=run
folder=
out=
programs=
limit=36 # MiB: what can be carried to a machine without network
wrong() {
    echo "run.sh: $1" >&2
    echo "$usage" >&2
    exit 2
}
passed=
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) echo "$usage" && exit 0 ;;
    --build) mode=build ;;
    --programs | --out | --only | --seconds | --batches | --tasks)
        [ $# -ge 2 ] || wrong "$1 needs a value"
        case $1 in
        --programs) programs=$2 ;;
        --out) out=$2 ;;
        *) case $2 in *[!a-z_0-9,.]*) wrong "$1 $2" ;; *) passed="$passed $1 $2" ;; esac ;;
        esac
        shift
        ;;
    -*) wrong "unknown option $1" ;;
    *) [ -z "$folder" ] && folder=$1 || wrong "one folder only: $1" ;;
    esac
    shift
done
folder=${folder:-$root/build/gpu-run}
case $folder in /*) ;; *) folder=$(pwd)/$folder ;; esac
fail() {
    echo "run.sh: $1" >&2
    exit 1
}
mib() { awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'; }

# --- build -----------------------------------------------------------------------------------------------------------
# Host code for any recent x86-64 processor: the machine with the GPU is another one. Device code is not compressed by nvcc:
# xz finds what the programs have in common.
build_programs() {
    mkdir -p "$(dirname "$folder")" || exit 1
    nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
    [ -x "$nvcc" ] || fail "no nvcc found; put it into PATH or into the environment variable CUDACXX"
    targets=
    for program in $programs; do
        case $program in
        step_cuda) targets="$targets bench_step_cuda" ;;
        unit_tests_cuda | golden_test_cuda | promptkd) targets="$targets $program" ;;
        *) wrong "there is no program '$program'" ;;
        esac
    done
    CUDACXX=$nvcc cmake -S "$root" -B "$folder.build" -DCMAKE_BUILD_TYPE=Release -DPROMPTKD_CUDA=ON -DPROMPTKD_MPI=OFF \
        -DPROMPTKD_NATIVE=OFF -DPROMPTKD_BUILD_TESTS=ON -DPROMPTKD_BUILD_BENCH=ON -DCMAKE_CUDA_ARCHITECTURES=90-real \
        -DPROMPTKD_CUDA_TEST_ARCHITECTURES=90-real -Dpromptkd_dependency__nccl_INCLUDE_DIR= \
        "-DCMAKE_CXX_FLAGS=-march=x86-64-v3" "-DCMAKE_CUDA_FLAGS=-Xcompiler=-march=x86-64-v3 -no-compress" \
        -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON "-DCMAKE_INSTALL_RPATH=\$ORIGIN/lib;/usr/local/cuda/lib64" \
        >"$folder.build.log" 2>&1 || {
        tail -n 5 "$folder.build.log" >&2
        fail "cmake failed; see $folder.build.log"
    }
    # One after the other: what is done stays done when a later one fails.
    for target in $targets; do
        start=$(date +%s)
        cmake --build "$folder.build" --parallel "${JOBS:-$(getconf _NPROCESSORS_ONLN)}" --target "$target" \
            >>"$folder.build.log" 2>&1 || {
            grep -E -A 6 'error|FAILED' "$folder.build.log" | head -n 30 >&2
            fail "$target was not built; see $folder.build.log"
        }
        echo "$target: built in $(($(date +%s) - start)) s"
    done
}
# The shared libraries of a program that a machine with CUDA does not have.
libraries_of() {
    ldd "$1" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' |
        grep -v -E '/(libc|libm|libdl|librt|libpthread|libresolv)\.so|/lib(cuda|cublas|nv|nccl)[^/]*\.so'
}
pack_programs() {
    stage=$folder.build/package
    rm -rf "$stage"
    mkdir -p "$stage/lib" "$folder" || exit 1
    for program in $programs; do
        built=$(find "$folder.build" -path "$stage" -prune -o -type f -name "$program" -perm -u+x -print | head -n 1)
        [ -n "$built" ] || fail "$program was not found in $folder.build"
        strip -o "$stage/$program" "$built" || exit 1
        for library in $(libraries_of "$built"); do
            [ -e "$stage/lib/$(basename "$library")" ] || cp -L "$library" "$stage/lib/" || exit 1
        done
    done
    (cd "$root" && git rev-parse HEAD 2>/dev/null) >"$stage/commit" || echo unknown >"$stage/commit"
    # shellcheck disable=SC2086
    (cd "$stage" && tar --sort=name --owner=0 --group=0 --mtime=@0 -cf - $programs lib commit) |
        xz -T1 --lzma2=preset=6e,dict=192MiB -c >"$folder/programs.tar.xz.new" || fail "xz failed"
    mv "$folder/programs.tar.xz.new" "$folder/programs.tar.xz"
    for program in $programs; do echo "$program: $(mib "$(wc -c <"$stage/$program")")"; done
    echo "libraries: $(mib "$(cat "$stage"/lib/* | wc -c)") ($(ls "$stage/lib" | paste -s -d ' ' -))"
    size=$(wc -c <"$folder/programs.tar.xz")
    echo "packed: $(mib "$size") in $folder/programs.tar.xz"
    [ "$size" -le $((limit * 1048576)) ] || fail "that is more than $limit MiB: choose fewer --programs"
}
if [ $mode = build ]; then
    [ -z "$passed$out" ] || wrong "--build takes no other option than --programs"
    programs=${programs:-step_cuda unit_tests_cuda golden_test_cuda}
    build_programs
    pack_programs
    exit 0
fi

[ -z "$programs" ] || wrong "--programs belongs to --build"

# --- run -------------------------------------------------------------------------------------------------------------
command -v python3 >/dev/null 2>&1 || fail "python3 is needed"
command -v nvidia-smi >/dev/null 2>&1 || fail "no NVIDIA GPU here (nvidia-smi was not found); --build works without one"
archive=$folder/programs.tar.xz
[ -f "$archive" ] || fail "there is no $archive: make it with \`sh bench/gpu/run.sh --build\` where nvcc is"
unpacked=${TMPDIR:-/tmp}/promptkd-gpu-run
stamp=$(cksum <"$archive")
if [ "$(cat "$unpacked/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$unpacked"
    mkdir -p "$unpacked" || exit 1
    python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$archive" "$unpacked" ||
        fail "$archive cannot be unpacked"
    echo "$stamp" >"$unpacked/stamp"
fi
# The toolkit's libraries, or those that came with PyTorch.
cuda=
for place in /usr/local/cuda/lib64 /usr/local/cuda/targets/x86_64-linux/lib \
    $(python3 -c 'import glob, sys; print(*(d for p in sys.path if p for d in sorted(glob.glob(p + "/nvidia/*/lib"))))'); do
    case $place in
    /usr/local/*) [ -e "$place/libcublasLt.so.13" ] && cuda=$place && break ;;
    *) cuda=$cuda${cuda:+:}$place ;;
    esac
done
# shellcheck disable=SC2086
exec python3 "$root/bench/gpu/table.py" --programs "$unpacked" --libraries "$cuda" --out "${out:-$folder.out}" $passed
