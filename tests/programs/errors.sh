# SPDX-License-Identifier: Apache-2.0
# Bad input of every kind: one line of error that says what is wrong and where, the right exit status, nothing lost.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
student=$assets/fashion_clip_student.safetensors
teacher=$assets/fashion_clip_teacher.safetensors
prompts=$assets/fashion_teacher_prompts.safetensors
rm -rf out photos tree

# --- bad usage: exit status 2 ----------------------------------------------------------------------------------------
refuse 2 'subcommand'
refuse 2 'nonsense' nonsense
refuse 2 'nonsense' nonsense --help
refuse 2 '--colour' zero-shot --weights "$student" --data "$fashion" --colour red
refuse 2 '--weights is required' zero-shot --data "$fashion"
refuse 2 '--teacher is required' distill --student "$student" --data "$fashion" --out out
refuse 2 'bundle' classify
for value in 'batch 0' 'batch many' 'lr -1' 'schedule sometimes' 'augment blur' 'order random' 'temperature 0' 'epochs 0' 'steps -1' 'device tpu' 'projector-layers 9'; do
    # shellcheck disable=SC2086  # option and value
    refuse 2 "--${value% *}" distill $models --data "$fashion" --out out --$value
done
refuse 2 '--data' distill $models --out out --data
check "bad usage leaves no output folder" test ! -e out

# --- broken safetensors files ----------------------------------------------------------------------------------------
head -c 100000 "$student" >cut.safetensors
refuse 1 'cut.safetensors: .*truncated' inspect cut.safetensors
head -c 5 "$student" >cut.safetensors
refuse 1 'too few for a safetensors file\|none of the known formats' inspect cut.safetensors
head -c 400 "$student" >cut.safetensors
refuse 1 'truncated: header of' inspect cut.safetensors
: >empty.safetensors
refuse 1 'empty.safetensors' inspect empty.safetensors
(cat "$student" && printf 'more') >long.safetensors
refuse 1 'long.safetensors: 4 bytes after the last tensor' zero-shot --weights long.safetensors --data "$fashion"
safetensors '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}' 12 >overlap.safetensors
refuse 1 "tensors 'a' and 'b' overlap at data byte 4" inspect overlap.safetensors
safetensors '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}' 4 >wrong.safetensors
refuse 1 'shape (2) of F32 needs 8' inspect wrong.safetensors
safetensors '{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}' 8 >wrong.safetensors
refuse 1 "unknown dtype 'F33'" inspect wrong.safetensors
safetensors '{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}' 8 >wrong.safetensors
refuse 1 'the shape overflows' inspect wrong.safetensors
printf '\377\377\377\377\377\377\377\177{}' >wrong.safetensors
refuse 1 'exceeds the format' inspect wrong.safetensors
printf '<!DOCTYPE html><html>not found</html>' >page.safetensors
refuse 1 'HTML page' inspect page.safetensors
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n' >pointer.safetensors
refuse 1 'Git LFS pointer' inspect pointer.safetensors
refuse 1 'absent.safetensors' inspect absent.safetensors
refuse 1 'no weights in this folder' inspect .

# --- weights that are no model ---------------------------------------------------------------------------------------
sed 's/"visual\.ln_post\.bias"/"visual.ln_past.bias"/' "$student" >missing.safetensors
refuse 1 "missing.safetensors: tensor 'visual.ln_post.bias' is missing" zero-shot --weights missing.safetensors --data "$fashion"
sed 's/"visual\.proj":{"dtype":"F16","shape":\[64,32\]/"visual.proj":{"dtype":"F16","shape":[32,64]/' "$student" >misshapen.safetensors
refuse 1 "'visual.proj' has shape (32, 64), expected (64, 64)" zero-shot --weights misshapen.safetensors --data "$fashion"
sed 's/"visual\.proj":{"dtype":"F16"/"visual.proj":{"dtype":"I16"/' "$student" >integers.safetensors
refuse 1 "'visual.proj' has dtype [iI]16, expected a floating-point type" zero-shot --weights integers.safetensors --data "$fashion"
refuse 1 "not a CLIP model" zero-shot --weights "$prompts" --data "$fashion"
refuse 1 'no text branch' zero-shot --weights "$data_dir/golden/model.student.safetensors" --data "$fashion"
refuse 1 'prompt' zero-shot --weights "$student" --prompts "$prompts" --data "$fashion"
zcat "$PROMPTKD_VOCAB" | head -n 100 >few.txt
refuse 1 'vocabulary' zero-shot --weights "$student" --vocab few.txt --data "$fashion"
printf 'no merges here' >none.txt
refuse 1 'none.txt' tokenize --vocab none.txt text
refuse 1 'absent.txt' tokenize --vocab absent.txt text
(unset PROMPTKD_VOCAB && "$promptkd" tokenize text >stdout 2>stderr)
one_error 'PROMPTKD_VOCAB' 'tokenize without a vocabulary'

# --- class vectors, names and images ---------------------------------------------------------------------------------
# shellcheck disable=SC2086  # a list of options
distill() {
    rm -rf out
    text=$1
    shift
    refuse 1 "$text" distill $models --data "$fashion" --images 64 $(without '--steps 2 --depth 3 --out out' "$@") "$@"
}
safetensors '{"class_vectors":{"dtype":"F32","shape":[10,32],"data_offsets":[0,1280]}}' 1280 >vectors.safetensors
distill 'has shape (10, 32), expected (10, 64)' --class-vectors vectors.safetensors
safetensors '{"class_vectors":{"dtype":"F32","shape":[3,64],"data_offsets":[0,768]}}' 768 >vectors.safetensors
distill "has shape (3, 64), expected (10, " --class-vectors vectors.safetensors
safetensors '{"class_vectors":{"dtype":"F32","shape":[10,64],"data_offsets":[0,2560]}}' 2560 >vectors.safetensors
distill 'row 0 .* length' --class-vectors vectors.safetensors
distill 'no class vectors: it holds' --class-vectors "$prompts"
distill 'expected (5, 64)' --init "$assets/trajectory.safetensors" --prompts 5
distill 'is missing' --init "$prompts"
distill 'depth' --depth 9
distill "has no '{}'" --template 'a photo'
distill 'the loss is ' --lr 1e30 --steps 20
: >names.txt
distill 'names.txt: the list of class names is empty' --class-names names.txt
printf 'one\n' >names.txt
distill '10 classes, but 1 class names' --class-names names.txt
printf 'one\n\377two\n' >names.txt
distill 'line 2: the class name is not valid UTF-8' --class-names names.txt
printf 'one\ntwo\n' >names.txt
distill '10 classes, but 2 class names' --class-names names.txt
refuse 1 'class_vectors. has shape (10, 64), expected (10, 80)' distill --teacher "$data_dir/golden/model.teacher.safetensors" --student "$student" \
    --data "$fashion" --images 64 --class-vectors "$assets/trajectory.safetensors" --depth 3 --out out
distill 'sees one image alone' --batch 1
distill 'sees one image alone' --batch 8 --accumulate 8
# shellcheck disable=SC2086  # a list of options
run 0 distill $models --data "$fashion" --images 64 --epochs 1 --depth 3 --fresh --out out --batch 1000000000
check "a batch of all images is told" grep -q 'each epoch is one batch of all' stdout
rm -rf out

refuse 1 "unknown data set 'fashion'; known: " zero-shot --weights "$student" --data fashion:/tmp
refuse 1 'must have the form NAME:ROOT' zero-shot --weights "$student" --data /tmp
refuse 1 'absent' zero-shot --weights "$student" --data folder:absent
refuse 1 'absent' zero-shot --weights "$student" --data fashion-mnist:absent
mkdir -p tree/one tree/two photos
cp "$data_dir/golden/images/02_RGB_40x40.png" tree/one/
refuse 1 "class 'two' has no image" zero-shot --weights "$student" --data folder:tree
printf 'one\nthree\n' >names.txt
refuse 1 "folder 'two' is not among the class names given" zero-shot --weights "$student" --data folder:tree --class-names names.txt
printf 'one\n' >names.txt
# shellcheck disable=SC2086  # a list of options
refuse 1 'one class alone' distill $models --data folder:tree/one --class-names names.txt --depth 3 --out out
printf 'one\ntwo\n' >names.txt
for name in a b c d e f g h; do printf 'no image' >photos/$name.png; done
# shellcheck disable=SC2086  # a list of options
refuse 1 'not one of 8 images could be read' distill $models --data folder:photos --class-names names.txt --batch 4 --depth 3 --out out
check "each is reported" test "$(grep -c '^warning: skipped: photos/' stderr)" -eq 8
printf 'missing.png,one\n' >list.csv
refuse 1 "list.csv: line 1: there is no file" zero-shot --weights "$student" --data list:list.csv
refuse 1 'not a student bundle' classify "$student" "$data_dir/golden/images/02_RGB_40x40.png"
refuse 1 'not a student bundle' evaluate "$student" --data "$fashion"

# --- results that cannot be written ----------------------------------------------------------------------------------
: >file
distill 'cannot create folder .file/out' --out file/out
distill 'cannot create folder .file' --out file
refuse 1 'cannot write .*No space left' zero-shot --weights "$student" --data "$fashion" --images 50 --json /dev/full
refuse 1 'cannot write' encode --weights "$student" --data "$fashion" --out file/features.npy
rm -rf out
# shellcheck disable=SC2086  # a list of options
set -- distill $models --teacher-prompts "$prompts" --data "$fashion" --images 64 --steps 16 --depth 3 --out out
run 0 "$@"
cp out/checkpoint/state.safetensors before
checks=$((checks + 1))
status=0
(ulimit -f 16 && exec "$promptkd" "$@" --fresh >stdout 2>stderr </dev/null) || status=$?
check "exit status $status with a full disk, expected 1" test $status -eq 1
one_error "cannot write 'out/checkpoint/state.safetensors'" 'distill with a full disk'
check "the checkpoint before is kept" same before out/checkpoint/state.safetensors
check "no temporary file is left" test -z "$(find out -name '*.tmp*')"
rm -rf out photos tree
finish
