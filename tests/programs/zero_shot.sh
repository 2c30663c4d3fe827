# SPDX-License-Identifier: Apache-2.0
# Zero-shot accuracies of the two Fashion-MNIST models, and of the teacher with its learned prompts, against those of the published code.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"

for model in teacher:86.56:93.36:82.72 student:76.82:84.00:71.24 prompted:86.40:93.48:82.64; do
    IFS=: read -r name base new all <<END
$model
END
    case $name in
    prompted) set -- --weights "$assets/fashion_clip_teacher.safetensors" --prompts "$assets/fashion_teacher_prompts.safetensors" ;;
    *) set -- --weights "$assets/fashion_clip_$name.safetensors" ;;
    esac
    run 0 zero-shot "$@" --data "$fashion" --batch 200 --json $name.json
    check "$name, base: $(number $name.json base), expected $base" near "$(number $name.json base)" "$base" 0.05
    check "$name, new: $(number $name.json new), expected $new" near "$(number $name.json new)" "$new" 0.05
    check "$name, all: $(number $name.json all), expected $all" near "$(number $name.json all)" "$all" 0.05
    check "$name: 10000 images" test "$(number $name.json n)" = 10000
done

# One half alone gives the half's figures, whatever the batch.
for batch in 7 64; do
    run 0 zero-shot --weights "$assets/fashion_clip_student.safetensors" --data "$fashion" --classes new --images 500 --batch $batch --json new.json
    grep -v '"batch"' new.json >new$batch.json
done
check "the batch size changes the result" same new7.json new64.json
check "per-class accuracies" grep -q '"Ankle boot": ' new7.json

finish
