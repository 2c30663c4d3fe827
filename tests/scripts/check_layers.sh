#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_layers.sh INCLUDE_DIR
# Dependencies between the folders of include/promptkd point one way, and each outside library stays behind the headers
# that may use it. Prints every violation as file:line and exits 1, or prints a summary and exits 0.
set -eu
root=${1:?usage: check_layers.sh INCLUDE_DIR}
cd "$root"
# shellcheck disable=SC2016  # awk, not shell
find promptkd -name '*.hpp' | LC_ALL=C sort | xargs awk '
function complain(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; bad++ }
function base(path) { sub(/^.*\//, "", path); return path }
# "promptkd/op/map.hpp" -> "op"; the umbrellas promptkd/promptkd.hpp and promptkd/cuda.hpp -> "".
function folder(path,   parts, n) { n = split(path, parts, "/"); return n > 2 ? parts[2] : "" }
# Headers for host programs without any linear algebra: readers, tokenizer, images, data sets.
function host_side(path,   f) {
    f = folder(path)
    return (f == "core" && path != "promptkd/core/eigen.hpp") || f == "format" || f == "text" || f == "image" || f == "data"
}
function allowed(kind, path,   f, b) {
    f = folder(path); b = base(path)
    if (kind == "Eigen") return path == "promptkd/core/eigen.hpp" || path ~ /^promptkd\/device\/cpu/
    if (kind == "CUDA") return path ~ /^promptkd\/device\/cuda/
    if (kind == "io") return f ~ /^(format|text|clip|data|train|distill|evaluate|deploy|experiment)$/
    if (kind in home) return path == home[kind]
    return 0  # tests and programs only
}
BEGIN {
    n = split("core format device op nn loss optim text image clip data train learner distill evaluate deploy experiment", order, " ")
    for (i = 1; i <= n; ++i) rank[order[i]] = i
    # Libraries that one header wraps.
    home["MPI"] = "promptkd/device/parallel/mpi.hpp"
    home["xtensor"] = "promptkd/format/xtensor.hpp"
    home["spng"] = "promptkd/format/png.hpp"
    home["libdeflate"] = "promptkd/format/crc32.hpp"
    home["xxhash"] = "promptkd/format/digest.hpp"
    home["openssl"] = "promptkd/format/sha256.hpp"
    home["stb"] = "promptkd/format/stb_image.hpp"
    home["webp"] = "promptkd/format/webp.hpp"
    home["tiffio"] = "promptkd/format/tiff.hpp"
    home["turbojpeg"] = "promptkd/format/jpeg_turbo.hpp"
    home["zip"] = "promptkd/format/zip_archive.hpp"
    home["utf8proc"] = "promptkd/text/unicode.hpp"
    home["sentencepiece_processor"] = "promptkd/text/pieces.hpp"
}
FNR == 1 {
    ++files
    f = folder(FILENAME)
    if (f != "" && !(f in rank)) complain("unknown folder " f "; add it to the order in check_layers.sh")
    if (f == "" && FILENAME !~ /\/(promptkd|cuda)\.hpp$/) complain("only the umbrellas belong in this folder")
}
/^[ \t]*#[ \t]*include[ \t]*"/ { complain("include as <promptkd/…>, not with quotes: " $0); next }
/^[ \t]*#[ \t]*include[ \t]*</ {
    target = $0; sub(/^[^<]*</, "", target); sub(/>.*$/, "", target)
    if (target ~ /^promptkd\//) {
        ++includes
        edge[FILENAME, ++degree[FILENAME]] = target
        from = folder(FILENAME); to = folder(target)
        if (to == "") complain("a header must not include an umbrella: " target)
        else if (!(to in rank)) complain("unknown folder: " target)
        else if (from != "" && rank[to] > rank[from]) complain(from "/ must not depend on " to "/: " target)
        next
    }
    kind = ""
    if (target ~ /^(Eigen|unsupported\/Eigen)\//) kind = "Eigen"
    else if (target ~ /^(cuda|cublas|cooperative_groups|nccl)/) kind = "CUDA"
    else if (target ~ /^mpi\.h/) kind = "MPI"
    else if (target ~ /^(xtensor|xtl)\//) kind = "xtensor"
    else if (target ~ /^(zlib\.h|nlohmann\/)/) kind = "io"
    else if (target ~ /^(spng|libdeflate|turbojpeg|tiffio|zip|utf8proc|sentencepiece_processor|xxhash)\.h$/) { kind = target; sub(/\.h$/, "", kind) }
    else if (target ~ /^(openssl|stb|webp)\//) { kind = target; sub(/\/.*$/, "", kind) }
    else if (target ~ /^(doctest\/|benchmark\/|CLI\/|gtest\/)/) kind = "program"
    if (kind == "Eigen") uses_eigen[FILENAME] = 1
    if (kind != "" && !allowed(kind, FILENAME)) complain(target " does not belong in this header")
}
END {
    if (!files) { print "no headers found"; exit 1 }
    # Breadth first from every host-side header: none may reach Eigen or a device.
    for (i = 1; i < ARGC; ++i) {
        start = ARGV[i]
        if (!host_side(start)) continue
        split("", seen); head = 1; tail = 1; queue[1] = start; seen[start] = 1
        while (head <= tail) {
            at = queue[head++]
            if (at in uses_eigen || folder(at) == "device") {
                printf "%s: a host-side header must not need Eigen or a device (through %s)\n", start, at
                ++bad; break
            }
            for (k = 1; k <= degree[at]; ++k) {
                next_header = edge[at, k]
                if (next_header in seen) continue
                seen[next_header] = 1; queue[++tail] = next_header
            }
        }
    }
    printf "%d headers, %d includes between them, %d violations\n", files, includes, bad
    exit bad > 0
}' || exit 1
