#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Adapted students on Fashion-MNIST with the models of examples/assets, as Markdown on standard output: LoRA, the whole
# encoder, and the mixture of three students, by the number of unlabelled images. One run a seed for every cell; a seed is
# also a draw of the images from the first 6,000.
usage="usage: sh bench/adapted.sh [--program FILE] [--work DIR] [--images LIST] [--seeds LIST] [--threads N] [--only NAME]
  --program  the promptkd to run (default build/release/promptkd)
  --work     folder for the runs (default build/adapted); finished runs are not repeated
  --images   numbers of unlabelled images (default 30,100,300,1000,6000)
  --seeds    (default 1,2,3)           --threads  CPU threads (default 2)
  --only     lora, full, best, best_full, or base: one column, or the table of the base classes, alone;
             or trials: what was tried on 1,000 images (NumPy and safetensors are needed)"
cd "$(dirname "$0")/.." || exit 1
program=build/release/promptkd
work=build/adapted
images=30,100,300,1000,6000
seeds=1,2,3
threads=2
only=
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) echo "$usage" && exit 0 ;;
    --program | --work | --images | --seeds | --threads | --only)
        [ $# -ge 2 ] || { echo "adapted.sh: $1 needs a value" >&2 && exit 2; }
        eval "${1#--}=\$2"
        shift 2
        ;;
    *) echo "adapted.sh: unknown option $1" >&2 && echo "$usage" >&2 && exit 2 ;;
    esac
done
[ -x "$program" ] || { echo "adapted.sh: there is no program $program; build it first" >&2 && exit 1; }
assets=examples/assets
fashion=${PROMPTKD_FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
pair="--teacher $assets/fashion_clip_teacher.safetensors --teacher-prompts $assets/fashion_teacher_prompts.safetensors
    --student $assets/fashion_clip_student.safetensors"
PROMPTKD_VOCAB=$assets/fashion_bpe.txt.gz
export PROMPTKD_VOCAB
mkdir -p "$work" || exit 1
log=$work/log.txt
: >"$log"
list() { echo "$1" | tr , ' '; }

# distil NAME IMAGES OPTION…: one run a seed, unless it is there
distil() {
    name=$1
    count=$2
    shift 2
    for seed in $(list "$seeds"); do
        out=$work/$name/seed$seed
        [ -s "$out/result.json" ] && continue
        draw=$work/images_${count}_$seed
        python3 bench/draw_images.py "$fashion" "$draw" --count "$count" --seed "$seed" || exit 1
        # shellcheck disable=SC2086  # lists of options
        "$program" distill $pair --data "fashion-mnist:$draw" --seed "$seed" --threads "$threads" "$@" --out "$out" \
            >>"$log" 2>&1 || {
            echo "adapted.sh: failed: distill $* --out $out" >&2
            tail -n 3 "$log" >&2
            exit 1
        }
    done
}

# figure NAME KEY: "mean ± deviation" of a result over the seeds, or the one value of one seed
figure() {
    for seed in $(list "$seeds"); do
        sed -n 's/^  "'"$2"'": \([0-9.]*\),*$/\1/p' "$work/$1/seed$seed/result.json"
    done | awk '{ n++; s += $1; q += $1 * $1 } END { m = s / n; v = n > 1 ? (q - n * m * m) / (n - 1) : 0
        if (n > 1) printf "%.2f ± %.2f", m, sqrt(v > 0 ? v : 0)
        else printf "%.2f", m }'
}

# cell NAME KEY…: its figures, or nothing where it was not asked for
cell() {
    name=$1
    shift
    if [ ! -d "$work/$name" ]; then
        printf ' |'
        return
    fi
    separator=' '
    for key in "$@"; do
        printf '%s%s' "$separator" "$(figure "$name" "$key")"
        separator=' / '
    done
    printf ' |'
}

# wanted COLUMN: whether it was asked for
wanted() { [ -z "$only" ] || [ "$only" = "$1" ]; }

# column NAME IMAGES OPTION…: the runs of a cell, where its column was asked for
column() {
    column=$1
    count=$2
    shift 2
    wanted "$column" && distil "${column}_$count" "$count" "$@"
}

# back SEED: what the mixture of a seed says of its images, as targets
back() {
    asked=$work/asked_$1.safetensors
    # shellcheck disable=SC2086
    "$program" teacher-logits ${pair%--student*} --data "fashion-mnist:$work/images_1000_$1" --augment none --threads "$threads" \
        --out "$asked" >>"$log" 2>&1 || exit 1
    python3 bench/back_into_one.py "$program" "$work/best_1000/seed$1/bundle.safetensors" "$work/images_1000_$1" "$asked" \
        "$work/back_$1.safetensors" || exit 1
}

# trial TEXT NAME OPTION…: a line of what was tried
trial() {
    text=$1
    name=$2
    shift 2
    distil "$name" 1000 "$@"
    printf '| %s |' "$text"
    cell "$name" harmonic_mean all
    echo
}

if [ "$only" = trials ]; then
    echo "1,000 images, harmonic mean / all classes in percent, seeds $seeds:"
    echo
    echo "| adapted alone | accuracy |"
    echo "|---|---|"
    trial "LoRA, rank 32 (the recipe)" lora_1000 --adapt lora
    for rank in 8 16 64; do trial "rank $rank" "lora_1000_rank$rank" --adapt lora --rank $rank; done
    trial "stay close to the frozen student's logits, weight 0.3" lora_1000_close_logits_0.3 --adapt lora --stay-close 0.3 --stay-close-to logits
    trial "stay close to its features, weight 1" lora_1000_close_features_1 --adapt lora --stay-close 1 --stay-close-to features
    trial "prompts and projector alone" prompts_1000 --adapt prompts --recipe adapted
    trial "LoRA without flips" lora_1000_noflip --adapt lora --augment none
    distil best_1000 1000 --fit best
    all=$seeds
    for seeds in $(list "$all"); do
        [ -s "$work/back_1000/seed$seeds/result.json" ] && continue
        back "$seeds"
        live=$pair
        pair="--student $assets/fashion_clip_student.safetensors --teacher-logits $work/back_$seeds.safetensors"
        distil back_1000 1000 --adapt lora
        pair=$live
    done
    seeds=$all
    trial "the three students' mixture as the teacher, without flips" back_1000
    exit 0
fi
if [ "$only" != base ]; then
    echo "Harmonic mean / all classes in percent, mean ± standard deviation over seeds $seeds:"
    echo
    echo "| images | adapted alone, LoRA | three students, LoRA | adapted alone, whole encoder | three students, whole encoder |"
    echo "|---|---|---|---|---|"
    for n in $(list "$images"); do
        column lora "$n" --adapt lora
        column best "$n" --fit best
        column full "$n" --adapt full
        column best_full "$n" --fit best --adapt full
        printf '| %s |' "$n"
        for name in lora best full best_full; do cell "${name}_$n" harmonic_mean all; done
        echo
    done
fi
if wanted base; then
    distil base_lora 6000 --distil-classes base --adapt lora
    distil base_best 6000 --distil-classes base --fit best
    distil base_best_full 6000 --distil-classes base --fit best --adapt full
    echo
    echo "Images of the base classes alone, base / new / all:"
    echo
    echo "| adapted alone, LoRA | three students, LoRA | three students, whole encoder |"
    echo "|---|---|---|"
    printf '|'
    for name in base_lora base_best base_best_full; do cell "$name" base new all; done
    echo
fi
