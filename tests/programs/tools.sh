# SPDX-License-Identifier: Apache-2.0
# tokenize, inspect, encode, --config, --json and --help.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
teacher=$assets/fashion_clip_teacher.safetensors
student=$assets/fashion_clip_student.safetensors

# tokenize: arguments or lines of standard input, a list of id lists
run 0 tokenize 'a photo of a Dress.' ''
cp stdout arguments
printf 'a photo of a Dress.\r\n\n' | "$promptkd" tokenize >lines
check "standard input gives the same" same arguments lines
check "a list of two lists, one of them empty" grep -q '^\[\[[0-9,]*\],\[\]\]$' arguments
run 0 tokenize --vocab "$PROMPTKD_VOCAB" --json ids.json 'a photo of a Dress.' ''
check "--json writes the list" test "$(tr -d ' \n' <ids.json)" = "$(tr -d '\n' <arguments)"

# inspect: sizes from the weights
run 0 inspect "$teacher" --json info.json
for figure in width:128 patch:4 resolution:28 vocabulary:838 context_length:32; do
    check "inspect: ${figure%:*}" grep -q '"'"${figure%:*}"'": '"${figure#*:}" info.json
done
check "inspect: kind" grep -q '^kind: CLIP model$' stdout
run 0 inspect "$assets/fashion_teacher_prompts.safetensors"
check "inspect: prompts" grep -q '^text_prompts: {"depth":3,"vectors":4}$' stdout

# encode: tensors, texts and images, in safetensors and .npy
run 0 encode --weights "$data_dir/golden/model.teacher.safetensors" --tensors "$data_dir/golden/zero_shot.safetensors" --out encoded.safetensors
for tensor in 'image_features (5, 80)' 'text_features (7, 80)' 'logits (5, 7)'; do
    check "encode --tensors: $tensor" grep -q -F "$tensor" stdout
done
run 0 encode --weights "$student" --data "$fashion" --out features.npy --batch 500
check "encode: .npy of all test images" test "$(wc -c <features.npy)" -eq $((128 + 10000 * 32 * 4))
check "encode: .npy header" grep -q "'shape': (10000, 32)" features.npy
printf 'Sandal\nankle_boot\n' >texts.txt
run 0 encode --weights "$teacher" --texts texts.txt --template 'a photo of a {}.' --normalize --out texts.safetensors
check "encode --texts" grep -q -F 'text_features (2, 64)' stdout
run 0 inspect texts.safetensors
check "inspect of features" grep -q '^parameters: 128$' stdout
refuse 1 'one of --tensors, --texts and --data' encode --weights "$teacher" --out x.safetensors
refuse 1 'a .npy file holds one array' encode --weights "$data_dir/golden/model.teacher.safetensors" --tensors "$data_dir/golden/zero_shot.safetensors" --out x.npy
check "nothing is left of it" test ! -e x.npy

# --json - keeps standard output for the JSON
run 0 zero-shot --weights "$student" --data "$fashion" --images 200 --json -
check "only JSON on standard output" test "$(head -n 1 stdout)$(tail -n 1 stdout)" = '{}'
check "the line for people goes to standard error" grep -q '^base ' stderr
cp stdout plain.json

# --config: every option of a result can be given back; the command line wins
cat >config.json <<END
{"weights": "$student", "data": "$fashion", "images": 200, "classes": "new", "batch": "32"}
END
run 0 zero-shot --config config.json --json half.json
check "--config is read" grep -q '"classes": "new"' half.json
check "half of the images" test "$(number half.json n)" -lt 200
run 0 zero-shot --config config.json --classes all --json all.json
check "the command line wins" test "$(number all.json n)" = 200
sed -n '/"config": {/,/^  }/p' plain.json | sed 's/"config"://; s/},/}/' >again.json
run 0 zero-shot --config again.json --json again_result.json
check "the configuration of a result gives the result again" same plain.json again_result.json
echo '[1, 2]' >config.json
refuse 1 'config.json: not a JSON object' zero-shot --config config.json
echo '{"weights": "x", "data": "y:z", "weigths": "x"}' >config.json
refuse 2 'weigths' zero-shot --config config.json
refuse 1 'absent.json' zero-shot --config absent.json

# --help of every command, and what it promises
run 0 --version
check "--version" grep -q '^promptkd [0-9]*\.[0-9]*\.[0-9]*$' stdout
run 0 --help
commands=$(sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p' stdout)
for command in demo zero-shot distill evaluate classify encode tokenize inspect; do
    check "--help lists $command" sh -c "echo '$commands' | grep -q '^$command\$'"
done
for command in $commands; do
    run 0 "$command" --help
    check "$command --help: --config" grep -q -e '--config FILE' stdout

done
run 0 distill --help
for option in teacher teacher-prompts class-vectors student init data evaluate class-names template epochs steps batch lr schedule augment order \
    kd-weight temperature prompts depth seed out vocab device threads json fresh; do
    check "distill --help: --$option" grep -q -e "--$option\\b" stdout
done
finish
