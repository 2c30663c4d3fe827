#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Do two builds of the program compute the same, bit for bit? Each runs the same commands with fixed seeds in a folder of its
# own; the SHA-256 of every result is compared. Of safetensors that is the SHA-256 of tensors and metadata, without what
# tells of the file itself (its digest), of the run's inputs (fingerprints) and options that were not given.
usage="usage: sh tests/scripts/compare_builds.sh [--quick] OLD NEW [DIR]
  OLD, NEW   the two programs (build/release/promptkd)
  DIR        where they run (default: a new temporary folder)
  --quick    small runs: half a minute a program instead of three"
quick=no
[ "${1-}" = --quick ] && quick=yes && shift
case ${1-} in '' | -*) echo "$usage" && exit 2 ;; esac
old=$(realpath "$1") && new=$(realpath "${2:?$usage}") || exit 2
work=${3:-$(mktemp -d)}
root=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
fashion=fashion-mnist:${PROMPTKD_FASHION_MNIST:-/usr/share/datasets/fashion-mnist}

# content FILE: SHA-256 and name of a file, of safetensors without what is said above
content() {
    case $1 in
    *.safetensors | */converted.open*) ;;
    *) sha256sum "$1" && return ;;
    esac
    length=$(od -A n -t u8 -N 8 "$1" | tr -d ' ')
    digest='"promptkd\.digest":"[^"]*","promptkd\.has_digest":"yes"'
    empty='\\"[a-z0-9-]*\\":\\"\\"'
    {
        tail -c +9 "$1" | head -c "$length" | sed -e "s/\"__metadata__\":{$digest},//" -e "s/,$digest//" -e "s/$digest,//" \
            -e 's/"inputs":"\([^"\\]\|\\.\)*",//' -e "s/$empty,//g" -e "s/,$empty//g" -e 's/ *$//'
        tail -c +$((9 + length)) "$1"
    } | sha256sum | sed "s|-\$|$1|"
}

# results PROGRAM: runs everything here.
results() {
    promptkd=$1
    ln -sfn "$root/examples/assets" assets
    ln -sfn "$root/tests/fixtures" fixtures
    PROMPTKD_VOCAB=assets/fashion_bpe.txt.gz
    export PROMPTKD_VOCAB
    models="--teacher assets/fashion_clip_teacher.safetensors --student assets/fashion_clip_student.safetensors"
    prompts="--teacher-prompts assets/fashion_teacher_prompts.safetensors"
    images=640 epochs=2 shots=4
    [ $quick = yes ] || images=6000 epochs=10 shots=16
    set -e
    # shellcheck disable=SC2086  # lists of options
    {
        "$promptkd" demo --assets assets --data "$fashion" --images $images --epochs $epochs --test-images 500 --out demo >/dev/null 2>&1
        for learner in coop cocoop vpt ivlp maple promptsrc; do
            "$promptkd" train $learner --weights assets/fashion_clip_student.safetensors --data "$fashion" --images 2000 --shots $shots \
                --batch 8 --epochs 2 --depth 2 --allow-fewer --out $learner >/dev/null 2>&1
        done
        distil="distill $models $prompts --data $fashion --images 320 --batch 8 --epochs 2 --augment flip --depth 3"
        "$promptkd" $distil --out published >/dev/null 2>&1
        "$promptkd" $distil --train full --prompts 0 --optimizer adamw --lr 0.0005 --out full >/dev/null 2>&1
        "$promptkd" $distil --kd mse --stay-close 100 --stay-close-to logits --accumulate 2 --out close >/dev/null 2>&1
        "$promptkd" $distil --precision bf16 --out bf16 >/dev/null 2>&1
        "$promptkd" $distil --int8-teacher --out int8 >/dev/null 2>&1
        "$promptkd" $distil --protocol clean --validation 4 --out clean >/dev/null 2>&1
        "$promptkd" teacher-logits --teacher assets/fashion_clip_teacher.safetensors $prompts --data "$fashion" --images 320 --batch 8 \
            --epochs 2 --augment flip --out logits.safetensors >/dev/null 2>&1
        for target in openai huggingface open_clip; do
            "$promptkd" convert --weights assets/fashion_clip_teacher.safetensors --out converted.$target --to $target >/dev/null 2>&1
        done
        "$promptkd" convert --weights assets/fashion_clip_student.safetensors --out converted.student.safetensors --to openai >/dev/null 2>&1
        "$promptkd" zero-shot --weights assets/fashion_clip_teacher.safetensors $(echo "$prompts" | sed s/teacher-//) --data "$fashion" \
            --images 500 --json zero_shot.json >/dev/null 2>&1
        "$promptkd" evaluate published/bundle.safetensors --data "$fashion" --images 500 --json evaluate.json >/dev/null 2>&1
        "$promptkd" classify published/bundle.safetensors fixtures/golden/images/*.png --json classify.json >/dev/null 2>&1
        "$promptkd" encode --weights assets/fashion_clip_student.safetensors --data folder:fixtures/golden/images --out encode.safetensors >/dev/null 2>&1
        "$promptkd" reproduce base-to-novel $models --data "$fashion" --images 640 --test-images 200 --learner-epochs 1 --learner-depth 2 \
            --epochs 1 --depth 2 --seeds 1 --augment flip --out reproduce >/dev/null 2>&1
    }
    : >complete
}

# sums: those of what was made here go to the file sums.
sums() {
    find . -type f \( -name '*.safetensors' -o -path './converted*' -o -name 'log.*' -o -name 'curves.svg' -o -name 'predictions.svg' -o -name zero_shot.json \
        -o -name evaluate.json -o -name classify.json -o -name 'report.*' \) ! -path './demo/report.json' ! -name elapsed.json |
        LC_ALL=C sort | while read -r file; do content "$file"; done >sums
}

for which in old new; do
    mkdir -p "$work/$which"
    program=$old
    [ $which = old ] || program=$new
    if [ $which = new ] || { [ ! -e "$work/old/complete" ] && [ ! -s "$work/old/sums" ]; }; then # OLD's are kept in DIR
        rm -rf "${work:?}/$which" && mkdir -p "$work/$which"
        (cd "$work/$which" && results "$program")
        if [ $? -ne 0 ]; then # not "||": that would switch off the "set -e" of results
            echo "$which: a command failed, in $work/$which"
            exit 1
        fi
    fi
    (cd "$work/$which" && sums)
done
total=$(wc -l <"$work/old/sums")
if cmp -s "$work/old/sums" "$work/new/sums"; then
    echo "$total results, all equal"
    exit 0
fi
diff "$work/old/sums" "$work/new/sums"
echo "$total results, NOT all equal (in $work)"
exit 1
