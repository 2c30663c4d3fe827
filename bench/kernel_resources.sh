#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bench/kernel_resources.sh [ARCHITECTURE…]   (default: 80 90 100)
# Compiles every kernel of the promptkd and zero_shot steps and prints a Markdown table: registers, shared memory and spilled
# bytes of each, for every architecture. Exits 1 when a kernel spills. Needs nvcc and c++filt, no GPU.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
[ $# -gt 0 ] || set -- 80 90 100
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
spilled=0
release=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
printf '<!-- Made by bench/kernel_resources.sh (nvcc %s, -O3). -->\n\n' "$release"
for arch in "$@"; do
    "$nvcc" -std=c++20 -O3 -cubin -arch="sm_$arch" -Xptxas -v -I"$root/include" -I"$root" -I"$root/tests" \
        -o "$work/kernels.cubin" "$root/tests/cuda/golden_cuda.cu" 2>"$work/log" || {
        cat "$work/log" >&2
        exit 1
    }
    echo "### sm_$arch"
    echo
    echo "| kernel | registers | shared bytes | spill stores | spill loads |"
    echo "|---|---:|---:|---:|---:|"
    # ptxas prints the name, then the spills, then the registers of each kernel.
    c++filt <"$work/log" | awk '
        /Compiling entry function/ { name = $0; sub(/^[^\047]*\047/, "", name); sub(/\047.*$/, "", name) }
        /bytes spill stores/ { stores = $0; sub(/ bytes spill stores.*/, "", stores); sub(/.* /, "", stores)
                               loads = $0; sub(/ bytes spill loads.*/, "", loads); sub(/.* /, "", loads) }
        /Used [0-9]+ registers/ {
            registers = $0; sub(/ registers.*/, "", registers); sub(/.* /, "", registers)
            shared = 0
            if ($0 ~ /bytes smem/) { shared = $0; sub(/ bytes smem.*/, "", shared); sub(/.* /, "", shared) }
            gsub(/promptkd::detail::|promptkd::|void /, "", name); sub(/\(.*$/, "", name)
            print name "\t" registers "\t" shared "\t" stores "\t" loads
        }' | LC_ALL=C sort >"$work/table"
    awk -F '\t' '{ print "| `" $1 "` | " $2 " | " $3 " | " $4 " | " $5 " |" }' "$work/table"
    echo
    if awk -F '\t' '$4 + $5 > 0 { found = 1 } END { exit !found }' "$work/table"; then spilled=1; fi
done
[ $spilled -eq 0 ] || { echo "some kernels spill registers" >&2; exit 1; }
