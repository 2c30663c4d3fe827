#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_umbrella.sh INCLUDE_DIR
# promptkd/promptkd.hpp includes every header, by itself or through others, but those of optional libraries and of GPUs.
# Prints what it lacks and exits 1, or prints a summary and exits 0.
set -eu
cd "${1:?usage: check_umbrella.sh INCLUDE_DIR}"
apart='/cuda|/(xtensor|jpeg_turbo|mpi|blas_arguments)\.hpp$'
lacking=$({
    find promptkd -name '*.hpp' | sed 's/^/header /'
    grep -rn '^#include <promptkd/' promptkd --include='*.hpp' | sed 's/^\([^:]*\):.*<\(.*\)>.*/include \1 \2/'
} | awk '
    $1 == "header" { headers[$2] }
    $1 == "include" { included[$2] = included[$2] " " $3 }
    END {
        queue[1] = "promptkd/promptkd.hpp"
        for (first = last = 1; first <= last; ++first) {
            if (queue[first] in seen) continue
            seen[queue[first]]
            count = split(included[queue[first]], names, " ")
            for (i = 1; i <= count; ++i) queue[++last] = names[i]
        }
        for (header in headers) if (!(header in seen)) print header
    }' | grep -vE "$apart" | LC_ALL=C sort)
if [ -n "$lacking" ]; then
    echo "$lacking"
    echo "promptkd/promptkd.hpp does not include these headers"
    exit 1
fi
echo "promptkd/promptkd.hpp includes every header that is for everyone"
