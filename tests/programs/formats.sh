#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# formats.sh PROGRAM: every weight format gives the features that the library which wrote it computes, straight from the file
# and after every conversion; the published checkpoints give the published accuracies; what cannot be kept is refused.
set -u
program=${1:?usage: formats.sh PROGRAM}
formats=$PROMPTKD_TEST_DATA/formats
assets=$PROMPTKD_SOURCE_DIR/examples/assets
data=fashion-mnist:/usr/share/datasets/fashion-mnist
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0
report() { echo "FAILED: $1"; failures=$((failures + 1)); }

# values FILE TENSOR: the numbers of an f32 tensor in a safetensors file, one a line.
values() {
    length=$(od -An -t u8 -N 8 "$1" | tr -d ' ')
    span=$(head -c $((8 + length)) "$1" | tail -c "$length" | grep -ao "\"$2\":{[^}]*}" | sed 's/.*"data_offsets":\[\([0-9]*\),\([0-9]*\)\].*/\1 \2/')
    begin=${span% *} end=${span#* }
    tail -c +$((9 + length + begin)) "$1" | head -c $((end - begin)) | od -An -v -t f4 -w4
}

# close_to GOT EXPECTED TENSOR: max |got - expected| / max |expected| is at most 2e-5.
close_to() {
    values "$1" "$3" >"$work/got" && values "$2" "$3" >"$work/expected" || return 1
    [ "$(wc -l <"$work/expected")" -gt 10 ] && [ "$(wc -l <"$work/got")" -eq "$(wc -l <"$work/expected")" ] || return 1
    paste "$work/got" "$work/expected" | awk '
        { d = $1 - $2; if (d < 0) d = -d; m = $2 < 0 ? -$2 : $2; if (!(d <= worst)) worst = d; if (m > top) top = m }
        END { exit !(top > 0 && worst / top <= 2e-5) }'
}

encode() { "$program" encode --weights "$1" --tensors "$formats/$2.expected.safetensors" --out "$3" >"$work/log" 2>&1; }

# model FILE EXPECTED TARGET…: features from the file, and from each conversion bit for bit.
model() {
    file=$formats/$1 expected=$2
    shift 2
    encode "$file" "$expected" "$work/direct.safetensors" || { report "encode $file: $(cat "$work/log")" && return; }
    for tensor in image_features text_features; do
        close_to "$work/direct.safetensors" "$formats/$expected.expected.safetensors" $tensor || report "$file: $tensor differs from what its library computes"
    done
    for target in "$@"; do
        out=$work/converted.$target
        "$program" convert "$file" "$out" --to "$target" >"$work/log" 2>&1 || { report "convert $file --to $target: $(cat "$work/log")" && continue; }
        encode "$out" "$expected" "$work/back.safetensors" || { report "encode $out: $(cat "$work/log")" && continue; }
        cmp -s "$work/direct.safetensors" "$work/back.safetensors" || report "$file --to $target: features are not the same bits"
        rm -rf "$out" "$work/converted.json"
    done
}

# refused WORDS COMMAND…: exit status 1 and one line that contains WORDS.
refused() {
    words=$1
    shift
    status=0
    "$program" "$@" >"$work/out" 2>"$work/log" || status=$?
    [ "$status" -eq 1 ] || report "$*: exit status $status, expected 1"
    grep -q "$words" "$work/log" || report "$*: '$words' is not in: $(cat "$work/log")"
}

# accuracy NAME BASE NEW COMMAND…: both accuracies within 0.1 points.
accuracy() {
    name=$1 base=$2 new=$3
    shift 3
    "$program" "$@" --data $data --json "$work/accuracy.json" >"$work/log" 2>&1 || { report "$name: $(tail -n 1 "$work/log")" && return; }
    for key in base new; do
        [ $key = base ] && wanted=$base || wanted=$new
        got=$(grep -o "^ *\"$key\": [0-9.]*" "$work/accuracy.json" | tail -n 1 | sed 's/.*: //')
        awk -v g="$got" -v w="$wanted" 'BEGIN { d = g - w; exit !(g != "" && d <= 0.1 && d >= -0.1) }' || report "$name: $key $got, published $wanted"
    done
}

model openai.pt openai openai huggingface open_clip checkpoint
model state_dict_legacy.pt openai openai huggingface open_clip checkpoint
model hf_gelu hf_gelu openai huggingface open_clip
model open_clip_gelu.safetensors open_clip_gelu openai huggingface open_clip

refused "would be lost" convert "$formats/hf_gelu" "$work/x" --to checkpoint
[ -e "$work/x" ] && report "a refused conversion left a file"
cp "$formats/open_clip_gelu.safetensors" "$work/alone.safetensors"
refused "activation" encode --weights "$work/alone.safetensors" --tensors "$formats/open_clip_gelu.expected.safetensors" --out "$work/y"
printf '<!DOCTYPE html><html></html>' >"$work/page.pt"
refused "HTML page" inspect "$work/page.pt"

accuracy coop 85.70 91.60 zero-shot --weights "$assets/fashion_clip_teacher.safetensors" --prompts "$formats/checkpoints/coop.pth.tar" --vocab "$assets/fashion_bpe.txt.gz"
accuracy maple 85.18 92.88 zero-shot --weights "$assets/fashion_clip_teacher.safetensors" --prompts "$formats/checkpoints/maple.pth.tar" --vocab "$assets/fashion_bpe.txt.gz"
accuracy promptsrc 86.40 93.48 zero-shot --weights "$assets/fashion_clip_teacher.safetensors" --prompts "$formats/checkpoints/promptsrc.pth.tar" --vocab "$assets/fashion_bpe.txt.gz"
accuracy promptkd 79.42 85.78 evaluate --weights "$assets/fashion_clip_student.safetensors" --prompts "$formats/checkpoints/promptkd_student.pth.tar" \
    --class-vectors "$assets/trajectory.safetensors"

# What we write in the published layout is read back to the same bytes of results: from our own safetensors, and again.
for file in coop maple promptsrc; do
    from=$formats/checkpoints/$file.pth.tar
    "$program" convert "$from" "$work/$file.safetensors" --to openai >"$work/log" 2>&1 &&
        "$program" convert "$work/$file.safetensors" "$work/$file.pth.tar" --to checkpoint >"$work/log" 2>&1 ||
        { report "convert $file: $(tail -n 1 "$work/log")" && continue; }
    for prompts in "$from" "$work/$file.safetensors" "$work/$file.pth.tar"; do
        "$program" zero-shot --weights "$assets/fashion_clip_teacher.safetensors" --prompts "$prompts" --vocab "$assets/fashion_bpe.txt.gz" \
            --data $data --images 500 --json - 2>"$work/log" | sed '/"config": {/,/}/d' >"$work/now.json"
        [ "$prompts" = "$from" ] && mv "$work/now.json" "$work/first.json" && continue
        cmp -s "$work/first.json" "$work/now.json" || report "$prompts: other results than $from"
    done
done
from=$formats/checkpoints/promptkd_student.pth.tar
"$program" convert "$from" "$work/student.safetensors" --to openai >"$work/log" 2>&1 &&
    "$program" convert "$work/student.safetensors" "$work/student.pth.tar" --to checkpoint >"$work/log" 2>&1 || report "convert the student: $(tail -n 1 "$work/log")"
for prompts in "$from" "$work/student.pth.tar"; do
    "$program" evaluate --weights "$assets/fashion_clip_student.safetensors" --prompts "$prompts" --class-vectors "$assets/trajectory.safetensors" \
        --data $data --images 500 --json - 2>"$work/log" | sed '/"config": {/,/}/d' >"$work/$(basename "$prompts").json"
done
cmp -s "$work/promptkd_student.pth.tar.json" "$work/student.pth.tar.json" || report "the student's checkpoint: other results after conversion"
# The keys are the published ones, and no others.
for key in image_encoder.VPT image_encoder.transformer.resblocks.1.VPT_shallow VPT_image_trans.conv1.0.weight VPT_image_trans.conv1.1.running_var VPT_image_trans.conv1.3.bias; do
    unzip -p "$work/student.pth.tar" '*/data.pkl' 2>/dev/null | grep -qa "$key" || grep -qa "$key" "$work/student.pth.tar" || report "the student's checkpoint has no '$key'"
done
grep -qa 'compound_prompt_projections.0.weight' "$work/maple.pth.tar" || report "MaPLe's checkpoint has no projections"

# A learner trained here goes the same way.
"$program" train maple --weights "$assets/fashion_clip_teacher.safetensors" --vocab "$assets/fashion_bpe.txt.gz" --data $data --images 500 --shots 2 --epochs 1 --depth 3 \
    --out "$work/maple" >"$work/log" 2>&1 && "$program" convert "$work/maple/prompts.safetensors" "$work/trained.pth.tar" --to checkpoint >"$work/log" 2>&1 ||
    report "a trained learner: $(tail -n 1 "$work/log")"
for prompts in "$work/maple/prompts.safetensors" "$work/trained.pth.tar"; do
    "$program" zero-shot --weights "$assets/fashion_clip_teacher.safetensors" --prompts "$prompts" --vocab "$assets/fashion_bpe.txt.gz" --data $data --images 300 --json - 2>"$work/log" |
        sed '/"config": {/,/}/d' >"$work/$(basename "$prompts").json"
done
cmp -s "$work/prompts.safetensors.json" "$work/trained.pth.tar.json" || report "a trained learner: other results after conversion"

# Targets that cannot carry the heads, the activation or the EOT rule.
refused "attention heads of the image branch (3 at width 48).*attention heads of the text branch (4 at width 64).*activation (gelu)" \
    convert "$formats/hf_gelu" "$work/x" --to checkpoint
mkdir "$work/end" && cp "$formats/hf_gelu/model.safetensors" "$work/end/" && sed 's/"eos_token_id": 95/"eos_token_id": 50/' "$formats/hf_gelu/config.json" >"$work/end/config.json"
refused "EOT rule (first token 50)" convert "$work/end" "$work/x" --to checkpoint
sed 's/"eos_token_id": 95/"eos_token_id": 2/' "$formats/hf_gelu/config.json" >"$work/end/config.json"
"$program" convert "$work/end" "$work/x.folder" --to huggingface >"$work/log" 2>&1 || report "eos_token_id 2 means the largest id: $(cat "$work/log")"
refused "learned parameters (coop) would be lost" convert "$formats/checkpoints/coop.pth.tar" "$work/x" --to huggingface
[ -e "$work/x" ] && report "a refused conversion left a file"

for file in coop maple promptsrc promptkd_student; do
    "$program" inspect "$formats/checkpoints/$file.pth.tar" | grep -q "learner: ${file%_student}" || report "inspect $file: no learner"
done
"$program" inspect "$formats/openai.pt" --json - | grep -q '"missing": \[\]' || report "inspect openai.pt: missing tensors"

[ "$failures" -eq 0 ] && echo "all formats, conversions and checkpoints are as published"
