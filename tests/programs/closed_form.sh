# SPDX-License-Identifier: Apache-2.0
# Students in closed form, mixture and guard: fitted, written, read back, predicted, kept from harm; and every option
# that has no meaning with them.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
teacher=$assets/fashion_clip_teacher.safetensors
student=$assets/fashion_clip_student.safetensors
prompts=$assets/fashion_teacher_prompts.safetensors
rm -rf tiny closed again stored two plain guarded mixed
tiny_fashion tiny 200 200
data="--data fashion-mnist:tiny"
options="--fit closed-form --width 128 --student $student --teacher $teacher $data"
closed="distill $options"

# json FILE KEY: the text under a key of one line
json() { sed -n 's/^ *"'"$2"'": "\{0,1\}\([^",]*\)"\{0,1\},\{0,1\}$/\1/p' "$1" | head -n 1; }

# --- a whole run -----------------------------------------------------------------------------------------------------
# shellcheck disable=SC2086  # lists of options
{
    run 0 $closed --out closed
    check "the log says how far the student is trusted" grep -q '200 images: the student trusts the distilled part [0-9]* %' stdout
    check "and what was chosen" grep -q 'width 128, lambda [0-9.e-]* .*, eta [0-9.e-]*; encoded in' stdout
    run 0 evaluate closed/bundle.safetensors $data --json evaluated.json
    for key in base new all macro_f1; do
        check "evaluate: $key" test "$(number evaluated.json $key)" = "$(number closed/result.json $key)"
    done
    run 0 $closed --threads 1 --out again
    check "the number of threads changes nothing" same closed/bundle.safetensors again/bundle.safetensors
    run 0 distill --config closed/config.json --out again
    check "--config repeats it" same closed/bundle.safetensors again/bundle.safetensors
    refuse 1 "the student of a run with other settings: 'seed' was .1. and is now .2" $closed --seed 2 --out again
    check "it is still there" same closed/bundle.safetensors again/bundle.safetensors
    run 0 $closed --seed 2 --out again --fresh
    check "another seed is another first layer" test "$(cksum <closed/bundle.safetensors)" != "$(cksum <again/bundle.safetensors)"
}
run 0 inspect closed/bundle.safetensors --json inspected.json
check "inspect: the projector's width" test "$(number inspected.json projector_width)" = 128
check "inspect: the guard's images" test "$(number inspected.json images)" = 200
check "inspect: what a reader must know" grep -q '"guard"' inspected.json

# Ridge alone is another student than with the step; without mixture all trust is in it.
# shellcheck disable=SC2086
{
    run 0 $closed --no-kl-step --no-mix --no-guard --out plain
    check "no step" test "$(number plain/result.json eta)" = 0.0
    check "no mixture" test "$(number plain/result.json weight)" = 1.0
    run 0 inspect plain/bundle.safetensors --json inspected.json
    check "no guard" test -z "$(json inspected.json cutoff)"
    run 0 $closed --flip-rows --out again --fresh
    check "rows of flipped images" test "$(number again/result.json rows)" = 400
}

# --- teachers --------------------------------------------------------------------------------------------------------
# shellcheck disable=SC2086
{
    run 0 teacher-logits --teacher "$teacher" $data --augment none --out logits.safetensors
    run 0 distill --fit closed-form --width 128 --student "$student" --teacher-logits logits.safetensors $data --out stored
    run 0 $closed --teacher-prompts none --teacher-prompts "$prompts" --out two
    run 0 $closed --teacher-prompts none --teacher-prompts "$prompts" --teacher-weights confidence --out again --fresh
    check "confidence weighs otherwise" test "$(cksum <two/bundle.safetensors)" != "$(cksum <again/bundle.safetensors)"
    run 0 $closed --class-vectors "$assets/trajectory.safetensors" --out again --fresh
}
for out in stored two again; do
    check "$out: as good as one live teacher" near "$(number $out/result.json all)" "$(number closed/result.json all)" 6
done

# --- around gradient descent -----------------------------------------------------------------------------------------
steps="--student $student --teacher $teacher $data --depth 3 --epochs 2 --augment flip"
sgd="distill $steps --fresh"
# shellcheck disable=SC2086
{
    run 0 $sgd --out plain
    check "few images are warned of" grep -q '200 images are few for gradient descent' stderr
    check "a student is compared with its frozen self" grep -q 'compared with the teacher on 200 images that it learned from: distilled KL .*; zero-shot' stdout
    check "one that is farther from the teacher is told of" grep -q 'farther from the teacher than the zero-shot student .* or mix it with' stderr
    run 0 $sgd --distil-classes base --out plain
    check "classes that no image shows the teacher are named" grep -q 'are the teacher.s first choice for none of' stderr
    run 0 distill $(without "$steps" --teacher --student) --teacher "$student" --student "$teacher" --fresh --out plain
    run 0 $sgd --out plain
    run 0 $sgd --guard --out guarded
    check "the guard leaves the training alone" same plain/log.csv guarded/log.csv
    check "a guard alone trusts the student" test "$(number guarded/result.json weight)" = 1.0
    run 0 evaluate guarded/bundle.safetensors $data --json evaluated.json
    check "a guarded student is read back" test "$(number evaluated.json all)" = "$(number guarded/result.json all)"
    run 0 $sgd --guard --mix --mixture-features prompted --out mixed
    check "every tenth image is held out" test "$(number mixed/result.json steps)" = 44
    run 0 evaluate mixed/bundle.safetensors $data --json evaluated.json
    check "a mixed student is read back" test "$(number evaluated.json all)" = "$(number mixed/result.json all)"
    run 0 distill --student "$student" --teacher-logits logits.safetensors $data --depth 3 --epochs 2 --augment none --fresh --guard --mix --out again
}

# --- what it says of images ------------------------------------------------------------------------------------------
# shellcheck disable=SC2086
run 0 evaluate closed/bundle.safetensors $data --per-image --json evaluated.json
check "each image has a weight" test "$(grep -c '"weight"' evaluated.json)" -eq 200
image=$data_dir/golden/images/02_RGB_40x40.png
run 0 classify closed/bundle.safetensors "$image" --flag-unfamiliar --json classified.json
check "a strange image is unfamiliar" grep -q '"unfamiliar": true' classified.json
check "and is said to be" grep -q 'unfamiliar (distance ' stdout
refuse 1 'needs a student with a guard' classify plain/bundle.safetensors "$image" --flag-unfamiliar
# shellcheck disable=SC2086
refuse 1 'nothing to be said of single images' evaluate plain/bundle.safetensors $data --per-image

# --- other readers ---------------------------------------------------------------------------------------------------
run 0 convert closed/bundle.safetensors plain.pth.tar --to checkpoint
check "what is lost is named in one line" grep -q '^warning: .*no place for the mixture (.*; guard (.*readers run the distilled student alone' stderr
check "what is written is counted" grep -q '^plain.pth.tar: learned parameters, [0-9]* tensors' stdout
# A misfit that its digest does not give away: both entries about it get other names of the same length.
sed -e 's/"promptkd\.digest"/"promptkd.DIGEST"/; s/"promptkd\.has_digest"/"promptkd.HAS_DIGEST"/' \
    -e 's/"guard\.precision":{"dtype":"F64","shape":\[32,32\]/"guard.precision":{"dtype":"F64","shape":[64,16]/' closed/bundle.safetensors >misfit.safetensors
refuse 1 "'guard.precision' has shape" classify misfit.safetensors "$image"

# --- further classes -------------------------------------------------------------------------------------------------
printf 'sofa\nlamp\n' >names.txt
run 0 bundle add-classes closed/bundle.safetensors --class-names names.txt --teacher "$teacher" --student "$student" --activation quick_gelu --out named.safetensors
run 0 classify named.safetensors "$image" --top 12 --json classified.json
check "twelve classes" test "$(grep -c '"class"' classified.json)" -eq 12
refuse 1 "knows the class 'sofa' already" bundle add-classes named.safetensors --class-names names.txt --teacher "$teacher" --student "$student" --activation quick_gelu
refuse 1 "learned from another teacher: the prompts of the teacher differ; it had none" bundle add-classes closed/bundle.safetensors --class-names names.txt --teacher "$teacher" --teacher-prompts "$prompts" --student "$student" --activation quick_gelu --out again.safetensors
refuse 1 "needs the student's own class vectors" bundle add-classes closed/bundle.safetensors --class-names names.txt --teacher "$teacher" --activation quick_gelu --out again.safetensors

awk 'BEGIN { for (i = 0; i < 40; ++i) printf "sofa "; print "bed" }' >long.txt
set -- bundle add-classes closed/bundle.safetensors --class-names long.txt --teacher "$teacher" --student "$student" --activation quick_gelu --out long.safetensors
refuse 1 "text 'a photo of a sofa" "$@"
run 0 "$@" --truncate

# --- bad usage and bad input -----------------------------------------------------------------------------------------
# shellcheck disable=SC2086,SC2046
{
    refuse 2 '--lr.*no use for it' $closed --lr 0.1 --out again
    refuse 2 '--epochs.*no use for it' $closed --epochs 3 --out again
    refuse 2 '--no-mix.*belongs to --fit closed-form' $sgd --no-mix --out again
    refuse 2 'excludes' $closed --mix --no-mix --out again
    refuse 2 '--fit' $sgd --fit magic --out again
    refuse 1 'give at least 2' $closed --images 1 --out again --fresh
    refuse 1 'a fit of width 10000000 needs .* GB of memory' distill $(without "$options" --width) --width 10000000 --out again
    safetensors '{"__metadata__":{"format":"promptkd.targets","kind":"logits","class_names":"[\"a\",\"b\"]","fingerprint":"{}"},"targets":{"dtype":"F32","shape":[1,1,2],"data_offsets":[0,8]}}' 8 >bare.safetensors
    refuse 1 "bare.safetensors: tensor 'class_vectors' is missing" distill --fit closed-form --student "$student" --teacher-logits bare.safetensors $data --out again
    refuse 1 'stored targets have none of them' distill --fit closed-form --flip-rows --student "$student" --teacher-logits logits.safetensors $data --out again
    refuse 1 'frozen encoder' distill $(without "$steps" --depth) --fresh --guard --train full --prompts 0 --depth 0 --out again
    run 0 teacher-logits --teacher "$teacher" $data --augment flip --epochs 2 --out flips.safetensors
    refuse 1 'the augmentation' distill --fit closed-form --student "$student" --teacher-logits flips.safetensors $data --out again
    refuse 1 'give the teacher beside these targets' distill --student "$student" --teacher-logits flips.safetensors $data --depth 3 --epochs 2 --augment flip --fresh --guard --out again
}
rm -rf tiny closed again stored two plain guarded mixed ./*.safetensors names.txt plain.pth.tar
finish
