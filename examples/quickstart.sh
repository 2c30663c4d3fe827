#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what is needed (Debian, as root), builds promptkd and runs its demonstration.
usage="usage: sh examples/quickstart.sh [--help]   (installs, builds, runs promptkd demo; results in build/demo)"
case ${1-} in
'') ;;
-h | --help) echo "$usage" && exit 0 ;;
*) echo "quickstart: unknown option $1" >&2 && echo "$usage" >&2 && exit 2 ;;
esac

die() {
    echo "quickstart: $1" >&2
    exit 1
}
cd "$(dirname "$0")/.." || die "cannot enter the source folder"
mkdir -p build || die "cannot create the folder build"
. cmake/packages.sh

echo "== 1/3 packages"
# shellcheck disable=SC2086  # lists of words
packages_ensure build/packages.log $PACKAGES_BUILD $PACKAGES_DEMO || die "required packages are missing (see above)"

echo "== 2/3 build"
if command -v ninja >/dev/null 2>&1; then
    export CMAKE_GENERATOR="${CMAKE_GENERATOR:-Ninja}"
fi
cmake --preset release -DPROMPTKD_BUILD_TESTS=OFF -DPROMPTKD_BUILD_BENCH=OFF >build/configure.log 2>&1 || {
    tail -n 20 build/configure.log >&2
    die "configuring failed (all of it: build/configure.log)"
}
cmake --build --preset release --target promptkd --parallel "$(getconf _NPROCESSORS_ONLN || echo 1)" ||
    die "building failed (see above)"

echo "== 3/3 demonstration"
build/release/promptkd demo --out build/demo || die "the demonstration failed (see above)"

echo
echo "The same images once more, for the best of three students (--fit best, as many steps as fit 50 s):"
assets=examples/assets
build/release/promptkd distill --fit best --budget 50s --teacher $assets/fashion_clip_teacher.safetensors \
    --teacher-prompts $assets/fashion_teacher_prompts.safetensors --student $assets/fashion_clip_student.safetensors \
    --vocab $assets/fashion_bpe.txt.gz --data "fashion-mnist:${PROMPTKD_FASHION_MNIST:-/usr/share/datasets/fashion-mnist}" \
    --images 6000 --out build/demo/best --fresh || die "the best fit failed (see above)"

# row NAME FILE SECTION: a student's accuracies in a file of results, at its top or in a section
row() {
    awk -v name="$1" -v section="$3" '
        /^  "/ { inside = $1 == "\"" section "\":" || section == "" }
        inside && /"(base|new|harmonic_mean|all)":/ { key = $1; gsub(/[":]/, "", key); figure[key] = $2 + 0 }
        END { printf "| %s | %.2f | %.2f | %.2f | %.2f |\n", name, figure["base"], figure["new"], figure["harmonic_mean"], figure["all"] }
    ' "$2"
}
echo
echo "Both students, test accuracy in percent:"
echo
echo "| student | base | new | harmonic mean | all |"
echo "|---|---|---|---|---|"
row "published recipe" build/demo/report.json student_distilled
row "best of three" build/demo/best/result.json ""

echo
echo "The results are in $(pwd)/build/demo:"
ls build/demo
