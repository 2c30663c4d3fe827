#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_usage.sh SOURCE_DIR: the scripts parse, and refuse an unknown option with a usage line and exit status 2.
set -eu
cd "${1:?usage: check_usage.sh SOURCE_DIR}"
failures=0
report() { echo "$1"; failures=$((failures + 1)); }

for script in tests/run.sh tests/gpu_check.sh bench/gpu/run.sh bench/serve.sh bench/deploy.sh examples/quickstart.sh cmake/packages.sh tests/scripts/*.sh; do
    sh -n "$script" || report "$script: syntax"
done
for script in tests/run.sh tests/gpu_check.sh bench/gpu/run.sh bench/serve.sh bench/deploy.sh examples/quickstart.sh; do
    status=0
    output=$(sh "$script" --no-such-option 2>&1) || status=$?
    [ "$status" -eq 2 ] || report "$script --no-such-option: exit status $status, expected 2"
    case $output in
    *usage:*) ;;
    *) report "$script --no-such-option: no usage line" ;;
    esac
    status=0
    sh "$script" --help >/dev/null || status=$?
    [ "$status" -eq 0 ] || report "$script --help: exit status $status"
done
[ "$failures" -eq 0 ] && echo "all scripts parse and check their options"
