#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The table of last blocks on rendered scenes: dense_methods.sh PROGRAM [SCENES]. mIoU and pixel accuracy of the small
# Fashion models and of a CLIP that has seen scenes, whole pictures; the latter also in windows of 56, stride 28, on the
# first 100 scenes.
set -eu
program=$1
scenes=${2:-500}
source_dir=$(cd "$(dirname "$0")/.." && pwd)
assets=$source_dir/examples/assets
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '%s\n' T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag 'Ankle boot' >"$work/names.txt"
"$program" demo --dense --render "$work/scenes" --seed 1 --scenes "$scenes" >/dev/null 2>&1

# measure MODEL OPTION…: the line of one model and method
measure() {
    weights=$1
    shift
    "$program" evaluate --weights "$weights" --activation quick_gelu --vocab "$assets/fashion_bpe.txt.gz" \
        --class-names "$work/names.txt" --masks "$work/scenes" "$@" 2>/dev/null
}

for method in plain maskclip maskclip_reduced sclip clearclip naclip; do
    for model in "$assets/fashion_clip_student" "$assets/fashion_clip_teacher" \
        "$source_dir/tests/fixtures/golden/fashion_scene_clip"; do
        echo "$method, $(basename "$model"): $(measure "$model.safetensors" --method "$method")"
    done
    echo "$method, fashion_scene_clip in windows: $(measure \
        "$source_dir/tests/fixtures/golden/fashion_scene_clip.safetensors" --method "$method" --window 56 --stride 28 \
        --images 100)"
done
