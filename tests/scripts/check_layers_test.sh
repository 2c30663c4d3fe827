#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_layers_test.sh WORK_DIR: check_layers.sh accepts a good tree and reports each kind of violation.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=${1:?usage: check_layers_test.sh WORK_DIR}/layers_tree
failures=0

fresh_tree() {
    rm -rf "$tree"
    mkdir -p "$tree/promptkd/core" "$tree/promptkd/format" "$tree/promptkd/device" "$tree/promptkd/op" "$tree/promptkd/text"
    echo '#include <vector>' >"$tree/promptkd/core/a.hpp"
    echo '#include <Eigen/Core>' >"$tree/promptkd/core/eigen.hpp"
    echo '#include <promptkd/core/eigen.hpp>' >"$tree/promptkd/device/cpu.hpp"
    echo '#include <promptkd/device/cpu.hpp>' >"$tree/promptkd/op/map.hpp"
    echo '#include <promptkd/core/a.hpp>' >"$tree/promptkd/text/tokenizer.hpp"
    echo '#include <promptkd/op/map.hpp>' >"$tree/promptkd/promptkd.hpp"
}

# expect NAME STATUS: the checker's exit status on the tree as it is now.
expect() {
    status=0
    output=$(sh "$here/check_layers.sh" "$tree") || status=$?
    if [ "$status" -ne "$2" ]; then
        echo "$1: exit status $status, expected $2"
        echo "$output"
        failures=$((failures + 1))
    fi
}

# rejects NAME FILE LINE: adding LINE to FILE must be reported.
rejects() {
    fresh_tree
    echo "$3" >>"$tree/promptkd/$2"
    expect "$1" 1
}

fresh_tree
expect "a good tree" 0
rejects "core on op" core/a.hpp '#include <promptkd/op/map.hpp>'
rejects "the umbrella from below" op/map.hpp '#include <promptkd/promptkd.hpp>'
rejects "quotes" op/map.hpp '#include "map2.hpp"'
rejects "Eigen in op" op/map.hpp '#include <Eigen/Dense>'
rejects "a library in core" core/a.hpp '#  include <zlib.h>'
rejects "a library outside the header that wraps it" format/b.hpp '#include <spng.h>'
rejects "test framework in a header" op/map.hpp '#include <doctest/doctest.h>'
rejects "Eigen behind a host-side header" text/tokenizer.hpp '#include <promptkd/op/map.hpp>'
rejects "CUDA outside its header" device/cpu.hpp '#include <cuda_runtime.h>'
fresh_tree
mkdir "$tree/promptkd/extra"
echo >"$tree/promptkd/extra/x.hpp"
expect "an unknown folder" 1
rm -rf "$tree"
[ "$failures" -eq 0 ] && echo "check_layers.sh accepts and rejects what it should"
