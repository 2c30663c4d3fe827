# SPDX-License-Identifier: Apache-2.0
# The user's case: a folder of photos without labels, a list of class names, one file that classifies.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
images=$data_dir/golden/images

# PNG and JPEG of many sizes, grey, palette and alpha, in nested folders; a text file and a broken image among them.
rm -rf photos labelled alone run
mkdir -p photos/2024/summer photos/2025 alone
i=0
for image in "$images"/*; do
    i=$((i + 1))
    case $((i % 3)) in
    0) cp "$image" photos/ ;;
    1) cp "$image" photos/2025/ ;;
    2) cp "$image" photos/2024/summer/ ;;
    esac
done
cp "$images/06_RGB_160x120.jpg" photos/2025/UPPER.JPG
echo 'not an image' >photos/notes.txt
head -c 200 "$images/00_RGB_128x96.png" >photos/broken.png
printf 'T-shirt/top\r\n\r\nankle_boot\r\nwool coat\r\n' >names.txt
total=$((i + 1))

options="$models --teacher-prompts $assets/fashion_teacher_prompts.safetensors --batch 4 --depth 3 --out run"
# shellcheck disable=SC2086  # a list of options
set -- distill $options --fresh
run 0 "$@" --data folder:photos --class-names names.txt --epochs 2 --json -
check "a warning names the broken image" grep -q '^warning: skipped: photos/broken.png' stderr
check "the broken image is counted" test "$(number run/result.json unreadable)" = 1
check "all images are counted" test "$(number run/result.json images)" = $((total + 1))
check "$((2 * (total / 4))) steps" test "$(wc -l <run/log.jsonl)" -eq $((2 * (total / 4)))
check "--json - prints the result and nothing else" same stdout run/result.json
check "nothing labelled, nothing evaluated" test -z "$(number run/result.json accuracy)"

# Labelled images to evaluate on; class folders in the spelling of the names, in any order.
mkdir -p labelled/ankle_boot labelled/wool_coat 'labelled/T-shirt' labelled/hat
cp "$images"/0[0-3]* labelled/ankle_boot/
cp "$images"/0[4-6]* labelled/wool_coat/
cp "$images"/0[7-9]* 'labelled/T-shirt/'
cp "$images"/0[0-1]* labelled/hat/
refuse 1 "'T-shirt', 'hat' is not among the class names" "$@" --data folder:photos --class-names names.txt --steps 2 --evaluate folder:labelled
printf 'T-shirt\nankle boot\nhat\nwool coat\n' >names.txt
run 0 "$@" --data folder:photos --class-names names.txt --steps 2 --evaluate folder:labelled
check "the labelled tree is evaluated" test "$(number run/result.json n)" = 12
check "accuracies by class name" grep -q '"wool coat": ' run/result.json
check "base, new and their mean" test -n "$(number run/result.json harmonic_mean)"
run 0 evaluate run/bundle.safetensors --data folder:labelled --json evaluated.json
check "evaluate says the same" test "$(number evaluated.json macro_f1)" = "$(number run/result.json macro_f1)"

# A labelled tree needs no list of names, and its labels are not looked at in training.
run 0 "$@" --data folder:labelled --steps 2
check "four classes" grep -q '^12 images, 4 classes' stdout
check "a set without a test part is not tested on what it learns from" grep -q 'all of its 12 images are learned from' stderr
check "no accuracy then" test -z "$(number run/result.json accuracy)"
run 0 "$@" --data folder:labelled --steps 2 --holdout 1
check "one image of each class is held out" test "$(number run/result.json n)" = 4
check "the others are learned from" grep -q '^8 images, 4 classes' stdout
run 0 evaluate run/bundle.safetensors --data folder:labelled --holdout 1 --json evaluated.json
check "evaluate draws the same" test "$(number evaluated.json n)" = 4
# shellcheck disable=SC2046  # a list of options
run 0 distill $(without "$options" --batch) --fresh --data folder:labelled --epochs 1 --batch 1000000000
check "a set smaller than a batch is one batch" grep -q '12 images are fewer than a batch of 1000000000' stdout
check "a training that is all warm-up" grep -q '^warning: all of the training is warm-up (1 of 1 epochs)' stderr
mkdir labelled/empty
refuse 1 "class 'empty' has no image" "$@" --data folder:labelled --steps 2
rmdir labelled/empty
refuse 1 'give a list of class names' "$@" --data folder:photos/2025 --steps 2

# classify: from the bundle alone, nothing else beside it and no vocabulary.
mv run/bundle.safetensors alone/
cp "$images/04_RGBA_110x90.png" "$images/05_P_97x83.png" "$images/07_L_99x101.jpg" photos/broken.png alone/
cd alone || exit 1
unset PROMPTKD_VOCAB
run 0 classify bundle.safetensors 04_RGBA_110x90.png 05_P_97x83.png 07_L_99x101.jpg --top 2
check "three lines of answers" test "$(grep -c '%.*%$' stdout)" -eq 3
run 0 classify bundle.safetensors 05_P_97x83.png --json - --top 4
check "JSON: the file" test "$(sed -n 3p stdout)" = '    "file": "05_P_97x83.png",'
check "JSON: the classes" test "$(grep -c '"class": "' stdout)" -eq 4
check "JSON: probabilities sum to 1" awk '/"probability"/ { total += $2 } END { exit !(total > 0.9999 && total < 1.0001) }' stdout
check "JSON: the most likely comes first" sh -c "sed -n 's/.*\"probability\": //p' stdout | sort -rg -c"
run 1 classify bundle.safetensors 04_RGBA_110x90.png broken.png missing.jpg 07_L_99x101.jpg --json answers.json
check "two errors" test "$(grep -c '^promptkd: ' stderr)" -eq 2
check "both other files are answered" test "$(grep -c '"top"' answers.json)" -eq 2
check "errors in the JSON" test "$(grep -c '"error"' answers.json)" -eq 2
cd ..
rm -rf photos labelled alone run
finish
