# SPDX-License-Identifier: Apache-2.0
# Stored targets: training from them is training with the live teacher, byte for byte, and a file that belongs to
# something else is refused with the part that differs.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
teacher=$assets/fashion_clip_teacher.safetensors
prompts=$assets/fashion_teacher_prompts.safetensors
student=$assets/fashion_clip_student.safetensors
rm -rf tiny live stored again
tiny_fashion tiny 200 100
views="--data fashion-mnist:tiny --batch 8 --epochs 2 --augment flip"
set -- --student "$student" --depth 3 --fresh

# compare WHAT: the folders live and stored hold the same student
compare() {
    check "$1: the bundles differ" same live/bundle.safetensors stored/bundle.safetensors
    check "$1: the logs differ" same live/log.csv stored/log.csv
}

# --- the same student ------------------------------------------------------------------------------------------------
# shellcheck disable=SC2086  # lists of options
for kind in epochs fixed; do
    run 0 teacher-logits --teacher "$teacher" --teacher-prompts "$prompts" $views --views $kind --out $kind.safetensors
    run 0 distill --teacher "$teacher" --teacher-prompts "$prompts" $views --views $kind "$@" --out live
    run 0 distill --teacher-logits $kind.safetensors $views --views $kind "$@" --out stored
    compare "--views $kind"
done
# shellcheck disable=SC2086
for precision in bf16 fp16; do
    run 0 teacher-logits --teacher "$teacher" --teacher-prompts "$prompts" $views --precision $precision --out half.safetensors
    run 0 distill --teacher "$teacher" --teacher-prompts "$prompts" $views "$@" --precision $precision --out live
    run 0 distill --teacher-logits half.safetensors $views "$@" --precision $precision --out stored
    compare "--precision $precision"
done
check "fixed views are stored once" test "$(wc -c <fixed.safetensors)" -lt "$(wc -c <epochs.safetensors)"

# Features, several teachers (the plain one beside the prompted one), an own text encoder, other micro-batches.
# shellcheck disable=SC2086
{
    run 0 teacher-logits --teacher "$teacher" --teacher-prompts "$prompts" --kd mse $views --out features.safetensors
    run 0 distill --teacher "$teacher" --teacher-prompts "$prompts" --kd l1 $views "$@" --out live
    run 0 distill --teacher-logits features.safetensors --kd l1 $views "$@" --out stored
    compare "--kd l1"
    run 0 teacher-logits --teacher "$teacher" --teacher-prompts "$prompts" --teacher-prompts none $views --out two.safetensors --json two.json
    run 0 distill --teacher "$teacher" --teacher-prompts "$prompts" --teacher-prompts none $views "$@" --accumulate 2 --out live
    check "the log says what BatchNorm sees" grep -q 'BatchNorm sees 4 images at a time' stdout
    run 0 distill --teacher-logits two.safetensors $views "$@" --accumulate 2 --out stored
    compare "two teachers"
    run 0 distill --teacher-logits two.safetensors $views "$@" --accumulate 2 --text-features own --train full --lr 0.0005 --out again
    check "other options give another student" test "$(cksum <again/bundle.safetensors)" != "$(cksum <stored/bundle.safetensors)"
    run 0 evaluate again/bundle.safetensors --data fashion-mnist:tiny --json evaluated.json
    check "a fine-tuned student is read back as it was" test "$(number evaluated.json accuracy)" = "$(number again/result.json accuracy)"
    # A written configuration repeats the run, several teachers and all; the command line wins.
    run 0 distill --config live/config.json --out again
    check "--config repeats a run of two teachers" same again/log.csv live/log.csv
    run 0 distill --config live/config.json --teacher-prompts none --epochs 1 --out again
    check "the command line replaces repeated options" grep -q '"teacher-prompts": "none"' again/config.json
    # A run of fewer epochs sees a part of the views; a teacher beside the file is compared.
    run 0 distill --teacher-logits epochs.safetensors --teacher "$teacher" --teacher-prompts "$prompts" $(without "$views" --epochs) --epochs 1 "$@" --out again
}

# A teacher in 8 bits: live and stored the same, close to the teacher as it is.
# shellcheck disable=SC2086
{
    run 0 distill --teacher "$teacher" --teacher-prompts "$prompts" $views "$@" --out again
    run 0 teacher-logits --int8-teacher --teacher "$teacher" --teacher-prompts "$prompts" $views --out int8.safetensors
    run 0 distill --int8-teacher --teacher "$teacher" --teacher-prompts "$prompts" $views "$@" --out live
    run 0 distill --teacher-logits int8.safetensors $views "$@" --out stored
    compare "--int8-teacher"
}
check "8 bits change the student" test "$(cksum <live/bundle.safetensors)" != "$(cksum <again/bundle.safetensors)"
first=$(number again/result.json first_loss)
check "8 bits change the first loss by less than 2 %" near "$(number live/result.json first_loss)" "$first" "$(echo "$first" | awk '{ print 0.02 * $1 }')"

# --- files that belong to something else -----------------------------------------------------------------------------
# refuse_stored TEXT OPTION…
refuse_stored() {
    text=$1
    shift
    # shellcheck disable=SC2086
    refuse 1 "$text" distill $(without "--teacher-logits epochs.safetensors $views" "$@") --student "$student" --depth 3 --fresh --out again "$@"
}
refuse_stored 'the images (.200 images .* are not those of this run (.150 images' --images 150
refuse_stored 'the images (' --order file --distil-classes base
refuse_stored 'the augmentation (.flip.) .* (.rrc.)' --augment rrc
refuse_stored 'the seed of the views (1) .* (2)' --seed 2
run 0 distill --teacher-logits epochs.safetensors --data fashion-mnist:tiny --epochs 2 --augment flip --student "$student" --depth 3 --seed 2 --view-seed 1 --fresh --out again
refuse_stored 'the views (.new ones each epoch.) .* (.fixed.)' --views fixed
refuse_stored 'holds the views of 2 epochs, this run has 3' --epochs 3
refuse_stored 'the prompts of the teacher (' --teacher "$teacher"
refuse_stored 'the weights of the teacher (' --teacher "$student"
refuse_stored 'number of teachers' --teacher "$teacher" --teacher-prompts "$prompts" --teacher-prompts none
refuse_stored 'the weights of the teacher (.*in 8 bits' --teacher "$teacher" --teacher-prompts "$prompts" --int8-teacher
refuse_stored "holds the teacher's logits, but this loss needs its features" --kd mse
printf 'T-shirt/top\nTrouser\nPullover\ngown\nCoat\nSandal\nShirt\nSneaker\nBag\nAnkle boot\n' >names.txt
refuse_stored "class 4 is 'Dress' in the file and 'gown' in this run" --class-names names.txt
refuse_stored 'not a file of stored targets' --teacher-logits "$student"
head -c 3000 epochs.safetensors >cut.safetensors
refuse_stored 'cut.safetensors: .*truncated' --teacher-logits cut.safetensors
# shellcheck disable=SC2086
{
    refuse 2 '--teacher is required' distill $views --student "$student" --out again
    refuse 2 '--teacher is required' teacher-logits $views --out again.safetensors
    refuse 1 '2 teachers but 3 files of teacher prompts' teacher-logits --teacher "$teacher" --teacher "$teacher" \
        --teacher-prompts none --teacher-prompts none --teacher-prompts none $views --out again.safetensors
    refuse 1 'belong to one teacher' teacher-logits --teacher "$teacher" --teacher "$teacher" --class-vectors "$assets/trajectory.safetensors" \
        $views --out again.safetensors
    refuse 1 'features cannot be averaged' teacher-logits --teacher "$teacher" --teacher "$teacher" --kd l1 $views --out again.safetensors
    refuse 1 'has no effect without prompts' distill --teacher-logits epochs.safetensors $views --student "$student" --prompts 0 --stay-close 1 --out again --fresh
    refuse 1 'cannot be worked through in 3 equal parts' distill --teacher-logits epochs.safetensors $views "$@" --accumulate 3 --out again
    refuse 1 'are compared in\|is compared in 32' distill --teacher-logits features.safetensors --kd mse --text-features own $views "$@" --out again
}

# --- other images under the same names (one whose pixels are not among the few that are always compared) ----------------
mkdir -p photos/hat photos/coat
number=0
for file in "$data_dir"/golden/images/*.png; do
    number=$((number + 1))
    cp "$file" "photos/$([ $((number % 2)) -eq 0 ] && echo hat || echo coat)/$number.png"
done
cp -rp photos kept
run 0 teacher-logits --teacher "$teacher" --data folder:photos --batch 4 --epochs 1 --out photos.safetensors
learned() { expected=$1 && shift && run "$expected" distill --teacher-logits photos.safetensors --data folder:photos --batch 4 --epochs 1 "$@" --out stored; }
learned 0 "$@"
touch photos/coat/9.png
learned 0 "$@"
cp photos/hat/4.png photos/coat/9.png
learned 1 "$@"
one_error 'photos.safetensors: the sizes of the images changed since this file was written' 'another image'
cp kept/coat/9.png photos/coat/9.png
printf 'x' | dd of=photos/coat/9.png bs=1 seek=50 conv=notrunc 2>/dev/null
learned 1 "$@"
one_error 'photos.safetensors: the contents of the images changed since this file was written' 'a byte of an image'
cp kept/coat/9.png photos/coat/9.png
learned 0 "$@"
rm photos/coat/1.png
learned 1 "$@"
rm -rf tiny live stored again photos kept ./*.safetensors
finish
