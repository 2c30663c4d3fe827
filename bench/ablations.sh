#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The paper's ablations on Fashion-MNIST with the models of examples/assets, as Markdown on standard output: one run a seed
# for every line. The teachers are asked once (promptkd teacher-logits); every student of one teacher reads the same file.
usage="usage: sh bench/ablations.sh [--program FILE] [--work DIR] [--images N] [--epochs N] [--seeds LIST] [--threads N]
  --program  the promptkd to run (default build/release/promptkd)
  --work     folder for teachers, stored logits and runs (default build/ablations); finished runs are not repeated
  --images   unlabelled training images (default 2000)     --epochs  passes over them (default 5)
  --seeds    (default 1,2,3)                               --threads CPU threads (default 1)"
cd "$(dirname "$0")/.." || exit 1
program=build/release/promptkd
work=build/ablations
images=2000
epochs=5
seeds=1,2,3
threads=1
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) echo "$usage" && exit 0 ;;
    --program | --work | --images | --epochs | --seeds | --threads)
        [ $# -ge 2 ] || { echo "ablations.sh: $1 needs a value" >&2 && exit 2; }
        eval "${1#--}=\$2"
        shift 2
        ;;
    *) echo "ablations.sh: unknown option $1" >&2 && echo "$usage" >&2 && exit 2 ;;
    esac
done
[ -x "$program" ] || { echo "ablations.sh: there is no program $program; build it first" >&2 && exit 1; }
assets=examples/assets
data=fashion-mnist:${PROMPTKD_FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
teacher=$assets/fashion_clip_teacher.safetensors
student=$assets/fashion_clip_student.safetensors
PROMPTKD_VOCAB=$assets/fashion_bpe.txt.gz
export PROMPTKD_VOCAB
mkdir -p "$work" || exit 1
log=$work/log.txt
: >"$log"

# quiet COMMAND…: its output goes to the log; a failure ends the script
quiet() {
    "$program" "$@" >>"$log" 2>&1 && return 0
    echo "ablations.sh: failed: promptkd $*" >&2
    tail -n 3 "$log" >&2
    exit 1
}

# mean FILE KEY: "mean ± deviation" of a result over seeds
mean() {
    sed -n '/^  "'"$2"'": {/,/^  }/p' "$1" | awk '/"mean"/ { sub(/,$/, "", $2); m = $2 } /"standard_deviation"/ { sub(/,$/, "", $2); d = $2 }
        END { printf "%.2f ± %.2f", m, d }'
}

# teach NAME LEARNER OPTION…: the prompts of a teacher, learned from 16 labelled images of each base class
teach() {
    name=$1
    shift
    [ -s "$work/teacher_$name/prompts.safetensors" ] && return
    quiet train "$@" --weights "$teacher" --data "$data" --images 6000 --shots 16 --epochs 20 --batch 8 --seed 1 --threads "$threads" --out "$work/teacher_$name"
}

views="--data $data --images $images --epochs $epochs --batch 8 --augment flip --view-seed 1 --threads $threads"
# ask NAME OPTION…: what a teacher says of all views
ask() {
    name=$1
    shift
    # shellcheck disable=SC2086  # lists of options
    [ -s "$work/$name.safetensors" ] || quiet teacher-logits --teacher "$teacher" $views "$@" --out "$work/$name.safetensors"
}

# line TEXT NAME TARGETS OPTION…: a line of the table
line() {
    text=$1
    name=$2
    targets=$3
    shift 3
    # shellcheck disable=SC2086
    quiet distill --teacher-logits "$work/$targets.safetensors" --student "$student" $views --depth 3 --seeds "$seeds" "$@" --out "$work/run_$name"
    result=$work/run_$name/result.json
    echo "| $text | $(mean "$result" base) | $(mean "$result" new) | $(mean "$result" harmonic_mean) | $(mean "$result" all) |"
}

# timed TEXT NAME: a line with the seconds that gradient descent took, from a run that is there
timed() {
    result=$work/run_$2/result.json
    seconds=$(sed -n 's/^ *"seconds": \([0-9.]*\),*$/\1/p' "$result" | awk '{ n++; s += $1 } END { printf "%.0f", s / n }')
    echo "| $1 | $(mean "$result" harmonic_mean) | $(mean "$result" all) | $seconds |"
}

# adapt NAME OPTION…: students by the recipe for adapted students
adapt() {
    name=$1
    shift
    # shellcheck disable=SC2086
    quiet distill --teacher "$teacher" $source --student "$student" --data "$data" --images "$images" --threads "$threads" --seeds "$seeds" "$@" --out "$work/run_$name"
}

heading() {
    echo
    echo "| $1 | base | new | harmonic mean | all |"
    echo "|---|---|---|---|---|"
}

teach coop coop --lr 0.002
teach maple maple --lr 0.0035 --depth 3
teach promptsrc promptsrc --lr 0.0025 --depth 3
source="--teacher-prompts $work/teacher_promptsrc/prompts.safetensors"
# shellcheck disable=SC2086
{
    ask promptsrc $source
    ask features $source --kd mse
    ask half $source --distil-classes base
    ask few16 $source --images-per-class 16
    ask few64 $source --images-per-class 64
    ask plain
    ask coop --teacher-prompts "$work/teacher_coop/prompts.safetensors"
    ask maple --teacher-prompts "$work/teacher_maple/prompts.safetensors"
}

echo "Fashion-MNIST, $images unlabelled images, $epochs epochs, batch 8, test accuracy in percent, mean ± standard deviation over seeds $seeds:"
heading "student"
line "published recipe: KL on logits, 4 prompts, 2-layer projector, τ 1, PromptSRC teacher" published promptsrc
line "L1 on features" l1 features --kd l1
line "MSE on features" mse features --kd mse
line "projector only" projector promptsrc --prompts 0
line "full fine-tuning (lr 0.00005)" full promptsrc --train full --prompts 0 --lr 0.00005
line "full fine-tuning (lr 0.000005)" full_slow promptsrc --train full --prompts 0 --lr 0.000005
line "projector of 1 layer" layers1 promptsrc --projector-layers 1
line "projector of 3 layers" layers3 promptsrc --projector-layers 3
line "τ 0.5" tau05 promptsrc --temperature 0.5
line "τ 2" tau2 promptsrc --temperature 2
line "own text features" own promptsrc --text-features own
line "teacher: plain CLIP" plain plain
line "teacher: CoOp" coop coop
line "teacher: MaPLe" maple maple
line "16 images per class" few16 few16 --images-per-class 16
line "64 images per class" few64 few64 --images-per-class 64
line "stay close to features, weight 100" close_features promptsrc --stay-close 100
line "stay close to logits, weight 100" close_logits promptsrc --stay-close 100 --stay-close-to logits

heading "distilled on images of the base classes only"
line "not regularised" half half --distil-classes base
line "stay close to features, weight 1000" half_features half --distil-classes base --stay-close 1000
line "stay close to logits, weight 1000" half_logits half --distil-classes base --stay-close 1000 --stay-close-to logits

adapt prompts --adapt prompts --recipe adapted
adapt lora --adapt lora
adapt whole --adapt full
adapt best --fit best
echo
echo "| more than prompts, and another recipe | harmonic mean | all | seconds |"
echo "|---|---|---|---|"
timed "published recipe" published
timed "full fine-tuning by SGD (lr 0.00005)" full
timed "full fine-tuning by SGD (lr 0.000005)" full_slow
timed "prompts, recipe for adapted students" prompts
timed "LoRA, recipe for adapted students" lora
timed "whole encoder, recipe for adapted students" whole
timed "best of three, LoRA" best
