#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What each target and term of dense distillation is worth on rendered scenes: dense_distillation.sh PROGRAM [SEEDS]
# [VARIANTS]. 1,500 training scenes (seed 11, the first 6,000 training images), 500 test scenes (seed 1); mIoU and pixel
# accuracy without the background, accuracy of images, true boxes by RoIAlign, seconds. SEEDS: "1 2 3"; VARIANTS: names
# of the rows below (default: all).
set -eu
program=$1
seeds=${2:-1}
variants=${3:-lora full prompts regions windows map clearclip}
source_dir=$(cd "$(dirname "$0")/.." && pwd)
assets=$source_dir/examples/assets
data=${DATA:-fashion-mnist:/usr/share/datasets/fashion-mnist}
work=${WORK:-$(mktemp -d)}
[ -n "${WORK:-}" ] || trap 'rm -rf "$work"' EXIT
render() { "$program" demo --dense --render "$@" --data "$data" >/dev/null 2>&1; }
[ -s "$work/train/boxes.json" ] || render "$work/train" --split train --source-images 6000 --seed 11 --scenes 1500
[ -s "$work/test/boxes.json" ] || render "$work/test" --seed 1 --scenes 500

# options VARIANT: what is not as usual
options() {
    short="--epochs 8 --lr 0.002 --adapt full --image-weight 0"
    case $1 in
        lora | full) echo "--adapt $1" ;;
        prompts) echo "--adapt prompts --epochs 8 --lr 0.005" ;;
        regions) echo "$short" ;;
        windows) echo "$short --dense-targets windows --window 28 --stride 7" ;;
        map) echo "$short --dense-targets map" ;;
        clearclip) echo "$short --method clearclip" ;;
        *)
            echo "dense_distillation.sh: no variant '$1'" >&2
            exit 1
            ;;
    esac
}

# value FILE KEY: the first number of that name in a JSON file
value() { sed -n "s/.*\"$2\": *\([0-9.]*\).*/\1/p" "$1" | head -n 1; }

for variant in $variants; do
    for seed in $seeds; do
        out=$work/$variant-$seed
        begun=$(date +%s)
        # shellcheck disable=SC2046  # a list of options
        "$program" distill --teacher "$assets/fashion_clip_teacher.safetensors" --activation quick_gelu \
            --teacher-prompts "$assets/fashion_teacher_prompts.safetensors" --vocab "$assets/fashion_bpe.txt.gz" \
            --student "$assets/fashion_clip_student.safetensors" --data "$data" --images 6000 --dense "$work/train" \
            --seed "$seed" $(options "$variant") --out "$out" >"$work/log" 2>&1 || {
            tail -n 3 "$work/log" >&2
            exit 1
        }
        seconds=$(($(date +%s) - begun))
        "$program" evaluate "$out/bundle.safetensors" --masks "$work/test" --json "$out/masks.json" >/dev/null 2>&1
        "$program" detect "$out/bundle.safetensors" --boxes "$work/test/boxes.json" --regions roi \
            --out "$out/found.json" >/dev/null 2>&1
        "$program" evaluate --detections "$out/found.json" --boxes "$work/test/boxes.json" --json "$out/ap.json" \
            >/dev/null 2>&1
        echo "$variant, seed $seed: mIoU $(value "$out/masks.json" mIoU)   pixels $(value "$out/masks.json" aAcc)" \
            "  images $(value "$out/result.json" all)   AP50 by RoIAlign $(value "$out/ap.json" AP50)   $seconds s"
    done
done
