# SPDX-License-Identifier: Apache-2.0
# Every learner, and the kinds of distillation: a run killed in the middle ends with the same bytes as one that was not,
# and so does a second run; bad input of training.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
teacher=$assets/fashion_clip_teacher.safetensors
prompts=$assets/fashion_teacher_prompts.safetensors
student=$assets/fashion_clip_student.safetensors
rm -rf tiny whole killed again out
tiny_fashion tiny 400 100
data=fashion-mnist:tiny

# resume NAME COMMAND OPTION…: whole, killed and continued, and whole again
resume() {
    name=$1
    shift
    rm -rf whole again
    run 0 "$@" --out whole
    killed_in_the_middle killed "$@"
    run 0 "$@" --out killed
    run 0 "$@" --out again
    for file in log.jsonl log.csv checkpoint/state.safetensors "$result"; do
        check "$name: killed and continued, $file differs" same whole/$file killed/$file
        check "$name: a second run, $file differs" same whole/$file again/$file
    done
    check "$name: learned nothing" test "$(sed -n 2p whole/log.csv | cut -d, -f4)" != "$(tail -n 1 whole/log.csv | cut -d, -f4)"
}

result=prompts.safetensors
set -- --weights "$student" --data $data --shots 16 --batch 8 --epochs 4
resume coop train coop "$@" --optimizer adamw --protocol clean
check "the clean protocol says so" grep -q 'protocol clean: epoch [1-4] of 4, [0-9.]* % on 20 validation images' stdout
check "and so does the result" grep -q '"protocol": "clean"' again/result.json
resume cocoop train cocoop "$@"
resume vpt train vpt "$@" --visual-prompts 4 --depth 3
resume ivlp train ivlp "$@" --depth 2 --accumulate 2
resume maple train maple "$@" --depth 2
resume promptsrc train promptsrc "$@" --depth 2 --gaussian-mean 2

# Without labels: a larger CLIP in their place (KDPL).
kdpl="--loss kdpl --teacher $teacher"
# shellcheck disable=SC2086
{
    for learner in coop cocoop vpt maple promptsrc; do
        run 0 train $learner --weights "$student" --data $data $kdpl --shots 4 --batch 8 --epochs 2 --depth 2 --out out --fresh
        check "$learner, kdpl: learned" test "$(sed -n 2p out/log.csv | cut -d, -f4)" != "$(tail -n 1 out/log.csv | cut -d, -f4)"
    done
    resume 'coop, kdpl' train coop "$@" $kdpl
    printf 'Shirt\nsofa\nlamp\nBag\nCoat\nDress\n' >vocabulary.txt
    run 0 train vpt --weights "$student" --data $data $kdpl --names vocabulary.txt --top-names 3 --shots 0 --batch 8 --epochs 1 --depth 2 --out out --fresh
    check "of a vocabulary: tested on the classes" test -n "$(number out/result.json base)"
    refuse 2 '--teacher is required' train vpt --weights "$student" --data $data --loss kdpl --out out
    refuse 2 '--top-names.*belongs to --loss kdpl' train vpt --weights "$student" --data $data --top-names 3 --out out
    refuse 2 '--names is required' train vpt --weights "$student" --data $data $kdpl --top-names 3 --out out
    refuse 1 'the 7 most probable names of 6' train vpt --weights "$student" --data $data $kdpl --names vocabulary.txt --top-names 7 --depth 2 --out out --fresh
}
rm -rf out vocabulary.txt

# shellcheck disable=SC2086,SC2046  # lists of options
{
    result=bundle.safetensors
    options="$models --teacher-prompts $prompts --data $data --batch 8 --epochs 3 --augment flip --depth 3"
    set -- distill $options
    resume 'distill with Adam' "$@" --optimizer adam --lr 0.001 --schedule multi_step --milestones 1,2
    resume 'distill, clean, full' "$@" --train full --prompts 0 --protocol clean --validation 4 --optimizer adamw --lr 0.0005
    check "the clean protocol says so" grep -q 'protocol clean: epoch [1-3] of 3, [0-9.]* % on 40 validation images' stdout
    resume 'distill, staying close' "$@" --stay-close 100 --stay-close-to logits --kd mse --accumulate 4
    set -- distill $(without "$options" --epochs)
    # Several seeds: each is the run of that seed, and the mean is printed.
    run 0 "$@" --seeds 1,2 --epochs 1 --out again --fresh
    check "mean over seeds" grep -q '^harmonic_mean: [0-9.]* ± [0-9.]* over 2 seeds' stdout
    run 0 "$@" --seed 2 --epochs 1 --out out
    check "seed 2 of several" same out/log.jsonl again/seed2/log.jsonl
    run 0 "$@" --distil-classes base --images-per-class 6 --epochs 1 --out out --fresh
    check "30 images of base classes" grep -q '^30 images, 10 classes' stdout
    run 0 "$@" --schedule step --milestones 1 --gamma 0.5 --warmup none --epochs 2 --out out --fresh
    check "the rate is halved" test "$(tail -n 1 out/log.csv | cut -d, -f3)" = 0.0025
}

# --- bad input -------------------------------------------------------------------------------------------------------
set -- --weights "$student" --data $data --out out --fresh --epochs 1 --batch 8
rm -rf out
refuse 2 'learner' train clipadapter "$@"
refuse 1 "class 'T-shirt/top' has [0-9]* labelled image(s), fewer than the 1000 shots" train coop "$@" --shots 1000
run 0 train coop "$@" --shots 1000 --allow-fewer
refuse 1 'tokens' train coop "$@" --context 40 --context-words ''
refuse 1 'text prompts of depth 9 do not fit an encoder of 2 blocks\|visual prompts of depth 9 do not fit an encoder of 3 blocks' train maple "$@" --depth 9
refuse 1 'step [0-9]*: the loss is ' train ivlp "$@" --depth 2 --lr 1e30 --warmup none
refuse 1 'cannot be worked through in 3 equal parts' train coop "$@" --accumulate 3
refuse 2 '--milestones: --schedule multi_step needs them: epochs, e.g. 5,10' train coop "$@" --schedule multi_step
refuse 1 'fewer words\|fewer than the 6' train coop "$@" --context 6

# A folder that holds another run is left as it is: both are named.
set -- --data $data --out out --epochs 1 --batch 8 --depth 2
run 0 train maple --weights "$student" "$@" --fresh
cp out/checkpoint/state.safetensors before
refuse 1 "'learner' was \"maple\" and is now \"ivlp\"" train ivlp --weights "$student" "$@"
refuse 1 "'context' was 2 and is now 4" train maple --weights "$student" "$@" --context 4
refuse 1 "'weights' was .*fashion_clip_student.* and is now .*fashion_clip_teacher" train maple --weights "$teacher" "$@"
check "the checkpoint before is kept" same before out/checkpoint/state.safetensors

# Prompts of another backbone, of a learner that has no fixed prompts, of another length.
# shellcheck disable=SC2086
{
    set -- --data $data --batch 8 --epochs 1 --depth 3 --fresh --out out
    refuse 1 "text prompts of depth 3 do not fit an encoder of 2 blocks\|has shape (4, 128), expected (4, 64)" distill --teacher "$student" --student "$student" --teacher-prompts "$prompts" "$@"
    refuse 1 "expected (5, 64)" distill $models --init "$assets/trajectory.safetensors" --prompts 5 "$@"
    run 0 train cocoop --weights "$student" --data $data --epochs 1 --batch 8 --shots 2 --out again/cocoop
    refuse 1 "CoCoOp's context depends on each image" distill $models --teacher-prompts again/cocoop/prompts.safetensors "$@"
    refuse 1 'not learned prompts' distill $models --teacher-prompts "$student" "$@"
    mkdir -p photos
    cp "$data_dir"/golden/images/02_RGB_40x40.png photos/a.png
    cp photos/a.png photos/b.png
    printf "one\ntwo\n" >names.txt
    refuse 1 'needs labelled images' distill $models --data folder:photos --class-names names.txt --batch 2 --protocol clean --out out --fresh
}
rm -rf tiny whole killed again out before
finish
