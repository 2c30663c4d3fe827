#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_learners.sh SOURCE_DIR: outside include/promptkd/learner a learner is named only in include/promptkd/experiment
# (published settings and figures), examples/learners, documentation (comments, and texts for people: string literals with
# a space) and tests.
# Prints every violation as file:line and exits 1, or prints a summary and exits 0.
set -eu
cd "${1:?usage: check_learners.sh SOURCE_DIR}"

learners="coop cocoop vpt ivlp maple promptsrc kgcoop clip-lora"

report=$(mktemp)

# Code without comments and texts for people: "file:line: text".
code() {
    # shellcheck disable=SC2016  # awk, not shell
    xargs awk '{
        line = $0
        gsub(/VPT_[a-z_]+|encoder\.VPT/, "", line)  # parameters of the published checkpoints, of several learners
        sub(/^[ \t]*\/\/.*$/, "", line); sub(/[ \t]\/\/[ \/].*$/, "", line)
        n = split(line, part, "\"")
        line = part[1]
        for (i = 2; i <= n; ++i) line = line "\"" (i % 2 == 0 && part[i] ~ / / ? "" : part[i])
        if (line ~ /[^ \t]/) print FILENAME ":" FNR ": " line
    }'
}

trap 'rm -f "$report" "$report.code"' EXIT
find include examples/program -name '*.hpp' -o -name '*.cpp' | LC_ALL=C sort | code >"$report.code"

for name in $learners; do
    grep -iE "(^|[^a-z])$name([^a-z]|$)" "$report.code" |
        grep -vE '^include/promptkd/(learner|experiment)/|^include/promptkd/promptkd.hpp:' |
        sed "s|^\([^:]*:[0-9]*\):.*|\1: names the learner $name|" >>"$report" || true
done
if [ -s "$report" ]; then
    cat "$report"
    exit 1
fi
echo "learners are named where they belong"
