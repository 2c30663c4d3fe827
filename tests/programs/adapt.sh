# SPDX-License-Identifier: Apache-2.0
# Adapted students: LoRA, the whole encoder, the mixture of three; their bundles, checkpoints and budgets; and what makes
# no sense with them.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
teacher=$assets/fashion_clip_teacher.safetensors
student=$assets/fashion_clip_student.safetensors
rm -rf tiny some flat few lora merged full best again stopped parted adapter
tiny_fashion tiny 120 100
data="--data fashion-mnist:tiny"
pair="--student $student --teacher $teacher $data"
short="--epochs 4 --rank 4"

# --- one student -----------------------------------------------------------------------------------------------------
# shellcheck disable=SC2086,SC2046  # lists of options
{
    run 0 distill $pair --adapt lora $short --out lora
    check "a fifth is held out" test "$(number lora/result.json images)" = 24
    check "ten checks" test "$(number lora/result.json checks)" = 10
    check "the log says which was the best" grep -q 'KL to the teacher .* on 24 images held out' stdout
    check "and compares it with its frozen self" grep -q 'compared with the teacher on 24 images, none of which it learned from .*: distilled KL .*; zero-shot' stdout
    check "a student that is farther from the teacher is told of" grep -q 'farther from the teacher than the zero-shot student .* or fit the best of three students' stderr
    run 0 evaluate lora/bundle.safetensors $data --json evaluated.json
    check "LoRA apart is read back" near "$(number evaluated.json all)" "$(number lora/result.json all)" 0.01
    run 0 inspect lora/bundle.safetensors --json inspected.json
    check "inspect: what a reader must know" grep -q '"lora"' inspected.json
    run 0 distill $pair --adapt lora $short --merge-lora --out merged
    check "merging trains the same" same lora/log.csv merged/log.csv
    run 0 evaluate merged/bundle.safetensors $data --json evaluated.json
    check "LoRA merged is read back" near "$(number evaluated.json all)" "$(number lora/result.json all)" 0.01
    run 0 distill $pair --adapt lora $short --threads 1 --out again
    check "the number of threads changes nothing" same lora/bundle.safetensors again/bundle.safetensors
    run 0 distill --config lora/config.json --out again --fresh
    check "--config repeats it" same lora/bundle.safetensors again/bundle.safetensors

    run 0 distill $pair --adapt full --epochs 4 --out full
    check "a whole encoder is compared too" grep -q 'compared with the teacher on 24 images, .*; zero-shot' stdout
    run 0 evaluate full/bundle.safetensors $data --json evaluated.json
    check "a whole encoder is read back" near "$(number evaluated.json all)" "$(number full/result.json all)" 0.01
    run 0 distill $pair --adapt full --epochs 4 --precision bf16 --out again --fresh
    check "in bf16 too" near "$(number again/result.json all)" "$(number full/result.json all)" 8
    run 0 distill $pair --adapt lora $short --recompute --out again --fresh
    check "activations computed again: the same student" same lora/bundle.safetensors again/bundle.safetensors
    run 0 distill $pair --adapt prompts --recipe adapted --epochs 4 --out again --fresh
    check "prompts by this recipe" test "$(number again/result.json checks)" = 10
    run 0 distill $pair --train full --depth 3 --epochs 1 --augment flip --out again --fresh
    check "the older name keeps the older recipe" test "$(number again/result.json steps)" = 15
    check "and is compared as well" grep -q 'compared with the teacher on 120 images that it learned from: .*; zero-shot' stdout
}

# --- interrupted and continued ---------------------------------------------------------------------------------------
# shellcheck disable=SC2086
{
    "$promptkd" distill $pair --adapt lora --rank 4 --epochs 20 --out stopped >stdout 2>stderr </dev/null &
    process=$!
    until [ -s stopped/checkpoint/state.safetensors ] || ! kill -0 $process 2>/dev/null; do sleep 0.05; done
    kill -TERM $process 2>/dev/null
    wait $process
    check "it was interrupted" test ! -e stopped/bundle.safetensors
    run 0 distill $pair --adapt lora --rank 4 --epochs 20 --out stopped
    run 0 distill $pair --adapt lora --rank 4 --epochs 20 --out again --fresh
    check "an interrupted run ends as another one" same stopped/bundle.safetensors again/bundle.safetensors
    check "and so does its state" same stopped/checkpoint/state.safetensors again/checkpoint/state.safetensors
}

# --- three students --------------------------------------------------------------------------------------------------
# shellcheck disable=SC2086
{
    run 0 distill $pair --fit best $short --out best
    check "five parts are held out in turn" grep -q 'on 120 images held out, in 5 parts in turn' stdout
    check "all images are learned from" test "$(number best/result.json steps)" = 28
    check "a table of what each is worth" grep -q 'adapted .* %  *[01]\.' stdout
    check "and what one pass would lose" grep -q 'one pass (the adapted student alone)' stdout
    run 0 evaluate best/bundle.safetensors $data --json evaluated.json
    check "three students are read back" near "$(number evaluated.json all)" "$(number best/result.json all)" 0.01
    run 0 inspect best/bundle.safetensors --json inspected.json
    check "inspect: the third student" grep -q '"fitted"' inspected.json
    image=$data_dir/golden/images/02_RGB_40x40.png
    run 0 classify best/bundle.safetensors "$image" --flag-unfamiliar
    check "a strange image is unfamiliar" grep -q 'unfamiliar (distance ' stdout
    printf 'sofa\nlamp\n' >names.txt
    run 0 bundle add-classes best/bundle.safetensors --class-names names.txt --teacher "$teacher" --student "$student" --activation quick_gelu --out named.safetensors
    run 0 classify named.safetensors "$image" --top 12 --json classified.json
    check "twelve classes" test "$(grep -c '"class"' classified.json)" -eq 12
    run 0 distill $pair --fit best --adapt full --epochs 4 --out again --fresh
    run 0 evaluate again/bundle.safetensors $data --json evaluated.json
    check "with a whole encoder" near "$(number evaluated.json all)" "$(number again/result.json all)" 0.01
    run 0 distill $pair --fit best $short --folds 1 --one-pass --out again --fresh
    check "one pass: the adapted student alone" test "$(number again/result.json all)" = "$(number lora/result.json all)"
    "$promptkd" distill $pair --fit best --rank 4 --epochs 10 --folds 3 --out parted >stdout 2>stderr </dev/null &
    process=$!
    until [ -s parted/checkpoint/folds/checkpoint/state.safetensors ] || ! kill -0 $process 2>/dev/null; do sleep 0.05; done
    kill -TERM $process 2>/dev/null
    wait $process
    check "it was interrupted among the parts" test ! -e parted/bundle.safetensors
    run 0 distill $pair --fit best --rank 4 --epochs 10 --folds 3 --out parted
    run 0 distill $pair --fit best --rank 4 --epochs 10 --folds 3 --out again --fresh
    check "and ends as another one" same parted/bundle.safetensors again/bundle.safetensors
    run 0 distill $pair --fit best $short --budget 20s --out again --fresh
    check "a budget leaves its number of steps" test -s again/checkpoint/budget.json
}

# --- accuracy: never below doing nothing, and better where there are images enough -----------------------------------
# shellcheck disable=SC2086
{
    tiny_fashion some 300 1000
    prompts="--teacher-prompts $assets/fashion_teacher_prompts.safetensors"
    some="--student $student --teacher $teacher $prompts --data fashion-mnist:some"
    run 0 zero-shot --weights "$student" --data fashion-mnist:some --json zero.json
    nothing=$(number zero.json harmonic_mean)
    run 0 distill $some --images 30 --fit best --epochs 30 --out few
    check "30 images: the zero-shot student" near "$(number few/result.json harmonic_mean)" "$nothing" 0.4
    run 0 distill $some --fit best --epochs 20 --out few --fresh
    check "300 images: better by a point" awk -v a="$(number few/result.json harmonic_mean)" -v b="$nothing" 'BEGIN { exit !(a > b + 1) }'
    run 0 distill $some --distil-classes base --fit best --folds 2 --epochs 20 --out few --fresh
    check "base classes alone: the new ones are not lost" awk -v a="$(number few/result.json new)" -v b="$(number zero.json new)" 'BEGIN { exit !(a > b - 1) }'
}

# --- bad usage and bad input -----------------------------------------------------------------------------------------
# shellcheck disable=SC2086,SC2046
{
    refuse 2 '--rank' distill $pair --adapt lora --rank 0 --out again
    refuse 1 'LoRA of rank 65 for an encoder of width 64' distill $pair --adapt lora --rank 65 --out again
    refuse 2 '--rank.*belongs to --recipe adapted' distill $pair --rank 4 --out again
    refuse 2 '--one-pass.*belongs to --fit best' distill $pair --adapt lora --one-pass --out again
    refuse 2 '--folds.*belongs to --fit best' distill $pair --adapt lora --folds 2 --out again
    refuse 2 'excludes' distill $pair --fit best --folds 2 --budget 20s --out again
    refuse 1 'too few to hold 6 parts of 24 out in turn' distill $pair --fit best --folds 6 --out again --fresh
    refuse 1 'is for frozen image encoders' distill $pair --adapt full --precision int8 --out again
    run 0 convert lora/bundle.safetensors adapter --to peft
    check "peft: what is not in it" grep -q '^warning: .*no place for the prompts and projector: the low-rank updates alone are written' stderr
    check "peft: what is" grep -q '^adapter: low-rank updates, 36 tensors, layout peft' stdout
    for from in lora merged full; do
        run 0 convert $from/bundle.safetensors student.pth.tar --to checkpoint
        check "$from: its encoder is lost, and that is said" grep -q '^warning: .*are wrong with another one' stderr
        check "$from: prompts and projector" grep -q '^student.pth.tar: learned parameters, [0-9]* tensors' stdout
    done
    refuse 1 'peft low-rank updates' convert lora/bundle.safetensors student.pt --to openai
    check "a refusal is all it says" test "$(wc -l <stderr)" -eq 1
    refuse 1 'only one whose whole encoder is trained can begin with it' distill $pair --adapt lora --init full/bundle.safetensors --out again --fresh
    run 0 distill $pair --adapt full --epochs 1 --init full/bundle.safetensors --out again --fresh
    refuse 1 "other settings: 'rank' was .4. and is now .2" distill $pair --adapt lora --epochs 4 --rank 2 --out lora
    refuse 1 "other settings: 'one-pass'" distill $pair --fit best $short --one-pass --out best
    refuse 1 "the student of a run with other settings" distill $pair --fit closed-form --width 64 --out best
    mkdir flat
    cp tiny/t10k-* tiny/train-labels-idx1-ubyte flat
    { head -c 16 tiny/train-images-idx3-ubyte && head -c 94080 /dev/zero; } >flat/train-images-idx3-ubyte
    refuse 1 'features of all .* images are equal' distill $(without "$pair" --data) --data fashion-mnist:flat --fit best --out again --fresh
    check "before any training" test "$(grep -c 'part 1 of\|distil ' stderr)" -eq 0
    refuse 1 'learn from at least 2; give more images$' distill $pair --fit best --images 1 --out again --fresh
    refuse 1 'lora.0.attn.in_proj.A. has shape .*, expected' distill --student "$teacher" --teacher "$teacher" $data --adapt lora --init adapter/adapter_model.safetensors --out again
    refuse 1 'which only a student adapted with LoRA has' distill $pair --adapt full --init adapter/adapter_model.safetensors --out again
    echo '{"peft_type": "LORA", "r": 4, "lora_alpha": 4, "use_dora": "no"}' >adapter/adapter_config.json
    refuse 1 'adapter/adapter_config.json: .use_dora. is "no"' distill $pair --adapt lora --init adapter/adapter_model.safetensors --out again
    echo '{"r": 4}' >adapter/adapter_config.json
    refuse 1 'adapter/adapter_config.json: not the configuration of a LoRA' distill $pair --adapt lora --init adapter/adapter_model.safetensors --out again
    refuse 2 'excludes' distill $pair --adapt lora --train full --out again
    refuse 2 'must be a time' distill $pair --fit best --budget soon --out again
    refuse 1 'a budget of .* s is too short' distill $pair --fit best --rank 4 --budget 0.2s --out again --fresh
    refuse 1 'too few to hold' distill $pair --fit best --images 2 --out again --fresh
    refuse 1 'too few to hold 119 out' distill $pair --fit best --hold-out 119 --out again --fresh
    refuse 1 'there are no low-rank updates' distill $pair --adapt full --merge-lora --out again
    refuse 1 'they stay apart' distill $pair --fit best --merge-lora --out again
    resnet=$data_dir/golden/model.resnet.safetensors
    for how in lora full; do
        refuse 1 'needs a vision transformer' distill --student "$resnet" --teacher "$teacher" $data --adapt $how --prompts 0 --out again
    done
}
rm -rf tiny some flat few lora merged full best again stopped parted adapter ./*.safetensors ./*.pth.tar names.txt zero.json
finish
