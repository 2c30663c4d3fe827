#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a run says is true: results that were lost, options that mean nothing, inputs that changed, files that are damaged,
# signals, two runs in one folder.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
student=$assets/fashion_clip_student.safetensors
teacher=$assets/fashion_clip_teacher.safetensors
prompts=$assets/fashion_teacher_prompts.safetensors
image=$data_dir/golden/images/02_RGB_40x40.png
chmod -R u+w . && rm -rf ./*

# A small data set of files: four images of each of three classes.
for class in hat coat bag; do
    mkdir -p "photos/$class"
    for i in 1 2 3 4; do cp "$(find "$data_dir/golden/images" -name "0${i}_*" | head -n 1)" "photos/$class/$i.png"; done
done
# shellcheck disable=SC2086  # a list of options
set -- distill $models --data folder:photos --batch 4 --depth 3 --threads 1 --loader-threads 1

# byte FILE OFFSET VALUE: one byte replaced, counted from the end for a negative offset
byte() {
    at=$2
    [ "$at" -ge 0 ] || at=$(($(wc -c <"$1") + at))
    printf '%b' "$3" | dd of="$1" bs=1 seek="$at" conv=notrunc 2>/dev/null
}

# --- standard output ---------------------------------------------------------------------------------------------------
run 0 "$@" --epochs 2 --out base
bundle=base/bundle.safetensors
lost() {
    checks=$((checks + 1))
    for where in full closed; do
        status=0
        if [ $where = full ]; then
            "$promptkd" "$@" >/dev/full 2>stderr </dev/null || status=$?
        else
            "$promptkd" "$@" >&- 2>stderr </dev/null || status=$?
        fi
        [ $status -eq 1 ] || complain "exit status $status with standard output $where: promptkd $*"
        grep -q '^promptkd: cannot write to standard output: ' stderr || complain "not said: promptkd $*"
    done
}
lost classify $bundle "$image"
lost classify $bundle "$image" --json -
lost tokenize hello
lost inspect "$student"
lost inspect "$student" --json -
lost evaluate $bundle --data folder:photos
lost zero-shot --weights "$student" --data folder:photos
lost encode --weights "$student" --data folder:photos --out features.npy
lost convert "$student" again.safetensors --to openai
lost reproduce base-to-novel --weights "$student" --data "$fashion" --dry-run --out plan
lost train coop --help
lost --version
# Progress and messages never land in a file of the run, and a lost message changes no result.
"$promptkd" "$@" --epochs 2 --out closed >&- 2>&- <&-
check "exit status with all streams closed" test $? -eq 1
check "closed streams change the log" same base/log.jsonl closed/log.jsonl
check "closed streams change the bundle" same $bundle closed/bundle.safetensors
run 1 evaluate $bundle --data folder:photos --json none/result.json
check "an output that cannot be written is found before the work" test ! -s stdout
run 1 encode --weights "$student" --data folder:photos --out none/features.npy
check "encode: before the work" grep -q "No such file or directory" stderr
# shellcheck disable=SC2086
refuse 1 'none/logits.safetensors.: No such file' teacher-logits --teacher "$teacher" --data folder:photos --out none/logits.safetensors

# --- options -----------------------------------------------------------------------------------------------------------
refuse 2 '--epochs: given 2 times' "$@" --epochs 1 --epochs 2 --out no
refuse 2 '--fresh: given 2 times' "$@" --fresh --fresh --out no
for option in "--lr -1" "--lr abc" "--lr nan" "--lr 1e999" "--lr 0x1" "--batch 0" "--batch 010" "--batch 1.5" "--epochs 99999999999999999999" \
    "--threads -1" "--temperature 0" "--temperature nan" "--kd-weight inf" "--momentum -0.1" "--momentum nan" "--weight-decay -1" \
    "--stay-close nan" "--gamma 0" "--warmup-epochs -1" "--warmup-lr -1" "--seed -1" "--seed 18446744073709551616" "--seeds 1,1" \
    "--seeds 1,,2" "--seeds 1," "--seeds 18446744073709551616" "--view-seed 1.0" "--milestones 10,5" "--milestones 5,5" "--milestones 0" \
    "--schedule multi_step" "--projector-layers 4"; do
    # shellcheck disable=SC2086  # option and value
    refuse 2 "$(echo "$option" | sed 's/schedule.*/milestones/; s/ .*//')" "$@" --out no $option
    check "a message of less than 200 bytes" test "$(wc -c <stderr)" -lt 200
done
refuse 2 '--lr: must be a positive number, found -1' "$@" --lr -1 --out no
refuse 2 'a whole number from 0 to 18446744073709551615, found -1' "$@" --seed -1 --out no
refuse 2 '--epoch is not an option (did you mean --epochs?)' distill --epoch 3 --out no
refuse 2 '--weigths is not an option (did you mean --weights?)' zero-shot --weigths x --data folder:photos
refuse 2 '--zzzz is not an option; see' zero-shot --zzzz x
refuse 2 "not expected: 'two'" encode --weights "$student" --texts one two --out no
refuse 2 '--image-mean: must be a number from 0 to 1, found nan' zero-shot --weights "$student" --data folder:photos --image-mean nan
refuse 2 '--image-std: must be a positive number, found 0' zero-shot --weights "$student" --data folder:photos --image-std 0
refuse 2 '--holdout: must be a share below 1 or a whole number, found 1.5' zero-shot --weights "$student" --data folder:photos --holdout 1.5
refuse 1 'GB are needed at once, this machine has' zero-shot --weights "$student" --data folder:photos --resolution 8000
refuse 2 '--out is empty\|--out: is empty' "$@" --out ''
run 0 "$@" --epochs 1 --seed 18446744073709551615 --out seed
config() { printf '%s' "$1" >c.json && shift && refuse "$@" distill --config c.json; }
config '{"out": null}' 2 "c.json, line 1, column 2: 'out' is null"
config '{"student": "s",
  "lr": []}' 2 "c.json, line 2, column 3: 'lr' is an empty list"
config '{"out": ""}' 2 "'out' is empty"
config '{"out": true}' 2 "'out' takes a text or a number, found true"
config '{"out": {"a": 1}}' 2 "'out' is an object"
config '{"lr": [1, 2]}' 2 "'lr' takes one value"
config '{"fresh": "maybe"}' 2 "'fresh' must be true or false"
config '{"lr": 1, "lr": 2}' 2 "'lr' stands there twice"
config '{"lr": 1e400}' 1 'c.json, line 1, column 8: 1e400 is larger than any number'
config '{"lr": NaN}' 1 'c.json, line 1, column 8: not JSON (.*invalid literal'
config '{"command": "train"}' 2 "'command' is \"train\": these are options of another command"
config '{"help": true}' 2 "'help' is not an option"
config '{"out": "x\u0000y"}' 2 "'out' holds a NUL character"
config '{"colour": "red"}' 2 "'colour' is not an option of promptkd distill"
config '{"lr": 1,
 "batch": }' 1 'c.json, line 2, column 11: not JSON'
check "bad usage leaves no output folder" test ! -e no
# What is stored can be given back.
run 0 "$@" --epochs 2 --seed 3 --template 'a {}, worn' --milestones 1 --schedule step --out stored
cp stored/config.json stored.json
run 0 distill --config stored.json --out stored_again
check "the stored configuration gives the run again" same stored/bundle.safetensors stored_again/bundle.safetensors
# stored_config FILE: the object "config" of a result, by itself
stored_config() { sed -n '/^  "config": {$/,/^  }/p' "$1" | sed '1s/.*/{/; s/^  },$/}/'; }
for learner in coop:1 cocoop:1 kgcoop:1 vpt:3 ivlp:2 maple:2 promptsrc:2; do
    learner_options="--shots 1 --batch 2 --epochs 2 --threads 1 --depth ${learner#*:}"
    # shellcheck disable=SC2086  # a list of options
    run 0 train "${learner%:*}" --weights "$student" --data folder:photos --classes all $learner_options --out learned
    stored_config learned/result.json >learned.json
    run 0 train --config learned.json --out learned_again
    check "the stored configuration gives ${learner%:*} again" same learned/prompts.safetensors learned_again/prompts.safetensors
    rm -rf learned learned_again
done
refuse 2 '--context: must be at least 1 for this learner' train coop --weights "$student" --data folder:photos --context 0 --out no
# results_again COMMAND ARGUMENT…: the configuration in the results of a command gives these results again
results_again() {
    run 0 "$@" --json first.json
    stored_config first.json >first_config.json
    run 0 "$1" --config first_config.json --json second.json
    check "the stored configuration gives the results again: promptkd $*" same first.json second.json
}
results_again zero-shot --weights "$student" --data folder:photos --template 'a {}' --batch 2
results_again evaluate $bundle --data folder:photos --images 6
printf 'hat\rcoat\rbag\r' >mac.txt
printf 'hat\0coat\0bag\0' >nul.txt
printf 'Hat\nhat\nbag\n' >equal.txt
printf 'hat\n' >one.txt
mkdir flat && cp photos/hat/*.png flat
set_flat="$models --data folder:flat --batch 4 --depth 3 --epochs 1 --threads 1"
# shellcheck disable=SC2086
{
    run 0 distill $set_flat --class-names mac.txt --out mac
    check "old Mac line ends" grep -q ' images, 3 classes' stdout
    refuse 2 'must be a file of text, one name a line' distill $set_flat --class-names nul.txt --out no
    refuse 2 'must be a file of text, one name a line' encode --weights "$student" --texts nul.txt --out no.npy
    run 0 encode --weights "$student" --texts mac.txt --out mac.npy
    check "old Mac line ends of texts" test "$(wc -l <mac.npy.names)" -eq 3
    refuse 2 'must be a file of text, one name a line' bundle add-classes $bundle --class-names nul.txt --teacher "$teacher"
    refuse 2 'must be a file of text, one name a line' inspect --data folder:flat --class-names nul.txt
    refuse 1 'two classes at least' distill $set_flat --class-names one.txt --out no
    run 0 distill $set_flat --class-names equal.txt --out equal
}
check "equal class names are told" grep -q 'several classes have the same text (' stderr

# --- names and images --------------------------------------------------------------------------------------------------
bad=$(printf 'x\377\n\033[31m.png')
mkdir names && cp flat/1.png names && cp flat/2.png "names/$bad" && : >names/empty.png
run 0 encode --weights "$student" --data folder:names --out names.npy
check "the rows have names" test "$(cat names.npy.names)" = "$(printf 'names/1.png\nnames/x\\xff\\n\\x1b[31m.png')"
check "skipped images are counted at the end" test "$(tail -n 1 stdout)" = "1 image was skipped"
check "a warning is one line" grep -q '^warning: skipped: names/empty.png' stderr
run 0 encode --weights "$student" --data folder:names --out names.safetensors
run 1 classify $bundle names/1.png "names/$bad" names/empty.png "$(printf 'no\377.png')" --json answers.json
check "every image has an answer" test "$(grep -c '"file"' answers.json)" -eq 4
run 0 zero-shot --weights "$student" --data folder:photos --json "$(printf 'r\377.json')"
check "a name that is not UTF-8 can be an output" test -s "$(printf 'r\377.json')"
run 0 "$@" --epochs 1 --out "$(printf 'o\377ut')"
run 0 "$@" --epochs 1 --out "$(printf 'o\377ut')"
check "and is continued" grep -q 'already trained' stdout

# Names of classes are names of folders. No byte of them reaches a terminal as it is.
strange=$(printf 'q\033[31m\302\233')
mkdir -p "strange/$strange" strange/other && cp flat/1.png "strange/$strange/a.png" && cp flat/2.png strange/other/b.png
run 0 distill --teacher "$teacher" --student "$student" --data folder:strange --batch 2 --depth 3 --epochs 1 --threads 1 --out "$(printf 's\377')"
check "the output's name is escaped" grep -q 'student: s\\xff/bundle.safetensors' stdout
run 0 classify "$(printf 's\377')/bundle.safetensors" "strange/$strange/a.png"
check "a class name is escaped" grep -qF 'q\x1b[31m\xc2\x9b' stdout
check "nothing else is printed" test -z "$(LC_ALL=C tr -d '[:print:]\n' <stdout)"
again_strange() { run 0 reproduce few-shot --weights "$student" --learner coop --shots 1 --data "folder:$(printf 'u\377')" --seeds 1 --learner-batch 2 --learner-epochs 2 --threads 1 --out strange_results; }
cp -r photos "$(printf 'u\377')"
again_strange
again_strange
check "a folder that is not UTF-8: the results are known again" grep -q '^| CoOp | ' strange_results/report.md

# --- what a run is made of ---------------------------------------------------------------------------------------------
# changed TEXT COMMAND…: after the command on the data, the interrupted run is refused, naming what changed
cp "$teacher" t.safetensors && cp "$prompts" p.safetensors && chmod u+w t.safetensors p.safetensors
zcat "$PROMPTKD_VOCAB" >vocabulary.txt
made() { "$promptkd" distill --teacher t.safetensors --teacher-prompts p.safetensors --student "$student" --vocab vocabulary.txt --data folder:copy --batch 4 --depth 3 --epochs 2 --out made "$@" >stdout 2>stderr; }
again() { checks=$((checks + 1)) && status=0 && made && status=0 || status=$?; [ $status -eq "$1" ] || complain "exit status $status, expected $1: $2"; }
cp -rp photos copy
made
changed() {
    text=$1
    shift
    "$@"
    again 1 "$*"
    one_error "$text" "$*"
    chmod -R u+w copy
    rm -rf copy && cp -rp photos copy
}
check "unchanged inputs go on" made
changed 'the number of images changed since' rm copy/hat/1.png
changed 'the class names changed since' mv copy/hat copy/cap
changed 'the names of the images changed' mv copy/hat/1.png copy/hat/0.png
changed 'the sizes of the images changed' cp photos/hat/1.png copy/hat/2.png
changed 'the modification times of the images changed' touch copy/hat/2.png
check "restored inputs go on" made
made --fresh --verify-data
touch copy/hat/2.png
again 1 'without --verify-data the times count'
check "with --verify-data only the bytes count" made --verify-data
rm -rf copy && cp -rp photos copy
made --fresh
swap() { cp "$1" kept && cp "$2" "$1"; }
"$promptkd" train ivlp --weights "$teacher" --data folder:photos --classes all --shots 1 --batch 2 --epochs 1 --depth 3 --out ivlp >/dev/null 2>&1
swap p.safetensors ivlp/prompts.safetensors
again 1 'other prompts'
one_error 'the prompts of the teacher changed' 'other prompts'
cp kept p.safetensors
{ cat vocabulary.txt && echo; } >longer && swap vocabulary.txt longer
again 1 'another vocabulary'
cp kept vocabulary.txt
check "all put back" made

# --- damaged files -----------------------------------------------------------------------------------------------------
byte made/checkpoint/state.safetensors -9 '\0125'
again 1 'a damaged checkpoint'
one_error 'damaged or changed since it was written' 'a damaged checkpoint'
cp $bundle b.safetensors && byte b.safetensors -9 '\0125'
refuse 1 'b.safetensors: damaged or changed' classify b.safetensors "$image"
refuse 1 'b.safetensors: damaged or changed' evaluate b.safetensors --data folder:photos
cp "$teacher" nan.safetensors && chmod u+w nan.safetensors && byte nan.safetensors -1 '\0177' && byte nan.safetensors -2 '\0377'
for command in "zero-shot --weights nan.safetensors" "encode --out x.npy --weights nan.safetensors" "teacher-logits --epochs 1 --out x.safetensors --teacher nan.safetensors"; do
    # shellcheck disable=SC2086  # a list of words
    refuse 1 "nan.safetensors: tensor '.*' holds NaN or infinity" $command --data folder:photos
done
refuse 1 'holds NaN or infinity' inspect nan.safetensors
refuse 1 'holds NaN or infinity' convert nan.safetensors converted.safetensors --to openai
for key in image_encoder.VPT image_encoder.transformer.resblocks.1.VPT_shallow image_encoder.transformer.resblocks.2.VPT_shallow \
    text_encoder.transformer.resblocks.1.VPT_shallow prompt_learner.ctx; do
    LC_ALL=C sed "s/\"$key\"/\"$(echo "$key" | sed 's/[a-z]/z/g')\"/" "$prompts" >incomplete.safetensors
    refuse 1 "incomplete.safetensors: incomplete prompts: tensor '$key' is missing" zero-shot --weights "$teacher" --prompts incomplete.safetensors --data folder:photos
done

safetensors '{"images":{"dtype":"F32","shape":[1,3,28,28],"data_offsets":[0,9408]}}' 9408 >pixels.safetensors
run 0 encode --weights "$student" --tensors pixels.safetensors --out encoded.safetensors
byte pixels.safetensors -1 '\0177' && byte pixels.safetensors -2 '\0300'
refuse 1 "pixels.safetensors: tensor 'images' holds NaN or infinity" encode --weights "$student" --tensors pixels.safetensors --out encoded.safetensors

# Results of a reproduction: damaged, or of other images.
reproduced() { expected=$1 && shift && run "$expected" reproduce few-shot --weights "$student" --learner coop --shots 1 --data folder:copy --seeds 1 --learner-batch 2 --learner-epochs 2 --threads 1 --out results "$@"; }
rm -rf copy && cp -rp photos copy
reproduced 0
result=results/folder-copy/zero-shot/result.json
cp $result kept
sed 's/"accuracy": .*,/"accuracy": 99.0,/' kept >$result
reproduced 1
one_error "$result: damaged or changed since it was written" 'other figures'
sed 's/"digest"/"Digest"/' kept >$result
reproduced 1
one_error "$result: damaged or changed since it was written" 'no digest'
cp kept $result
cp photos/hat/1.png copy/hat/2.png
reproduced 1
one_error "$result: folder:copy (test): the sizes of the images changed since this result was written" 'other images'
cp -p photos/hat/2.png copy/hat/2.png
reproduced 0
rm -rf copy results

# Every output is tried before the work.
for file in bundle.safetensors config.json result.json log.jsonl log.csv; do
    rm -rf early && mkdir -p "early/$file"
    refuse 1 "early/$file.: it is a folder" "$@" --epochs 2 --out early
    check "$file: before the work" test ! -e early/checkpoint
done
rm -rf early && mkdir -p early/prompts.safetensors
refuse 1 'early/prompts.safetensors.: it is a folder' train coop --weights "$student" --data folder:photos --classes all --shots 1 --out early
rm -rf early && mkdir -p early/predictions.svg
refuse 1 'early/predictions.svg.: it is a folder' demo --out early
rm -rf early

# --- two runs, signals, folders that go away ---------------------------------------------------------------------------
# begun OUT ARGUMENT…: a long run in the background ($victim), once its first checkpoint is there
begun() {
    out=$1
    shift
    rm -rf "$out"
    "$promptkd" "$@" --out "$out" >background.out 2>background.err </dev/null &
    victim=$!
    while [ ! -s "$out/checkpoint/elapsed.json" ] && kill -0 $victim 2>/dev/null; do :; done
}
long=400
begun busy "$@" --epochs $long
refuse 1 "busy: process $victim is at work in this folder" "$@" --epochs 1 --out busy
"$promptkd" "$@" --epochs $long --wait --out busy >waited 2>&1 </dev/null &
waiting=$!
kill -TERM $victim
status=0
wait $victim || status=$?
check "exit status $status after SIGTERM, expected 143" test $status -eq 143
check "it says how to go on" grep -q '^promptkd: interrupted; the same command goes on with what is in busy' background.err
check "nothing else is written" test ! -e busy/bundle.safetensors
status=0
wait $waiting || status=$?
check "the waiting run goes on" test $status -eq 0
check "from where the first one stood" grep -q 'continuing after epoch' waited
check "no lock is left" test ! -e busy/.lock
run 0 "$@" --epochs $long --out unbroken
for file in log.jsonl bundle.safetensors checkpoint/state.safetensors; do
    check "an interrupted run ends as an unbroken one: $file" same unbroken/$file busy/$file
done
begun interrupted "$@" --epochs $long
kill -INT $victim 2>/dev/null # a background process of a shell ignores it: nothing may happen
kill -TERM $victim
wait $victim
begun gone "$@" --epochs $long
mv gone gone.away && rm -rf gone.away  # at once: what is removed file by file is still written to
status=0
wait $victim || status=$?
check "a removed output folder is an error" test $status -eq 1
check "which says so" grep -q 'gone: the output folder was removed or replaced during the run\|gone/' background.err
begun lost "$@" --epochs $long
rm lost/log.jsonl
status=0
wait $victim || status=$?
check "a removed log is none" test $status -eq 0
check "and is told" grep -q 'the log was removed during the run' background.err
check "the bundle is the same" same unbroken/bundle.safetensors lost/bundle.safetensors
cp "$teacher" cut.safetensors && chmod u+w cut.safetensors
begun cut distill --teacher cut.safetensors --student "$student" --data folder:photos --batch 4 --depth 3 --threads 1 --epochs 2000
truncate -s 1000 cut.safetensors
status=0
wait $victim || status=$?
check "exit status $status with weights cut short, expected 1" test $status -eq 1
check "in one line" grep -q '^promptkd: cut.safetensors: the file was cut short by another program' background.err

cp "$teacher" over.safetensors && chmod u+w over.safetensors
begun over distill --teacher over.safetensors --student "$student" --data folder:photos --batch 4 --depth 3 --threads 1 --epochs 2000
byte over.safetensors -9 '\0125'
status=0
wait $victim || status=$?
check "exit status $status with weights written over, expected 1" test $status -eq 1
check "in one line" grep -q '^promptkd: over.safetensors: the file was changed by another program' background.err

# --- a demonstration that was interrupted ------------------------------------------------------------------------------
set_demo="demo --images 640 --epochs 4 --test-images 100 --threads 1"
# shellcheck disable=SC2086  # a list of words
{
    run 0 $set_demo --out demo
    begun demo_stopped $set_demo
    kill -TERM $victim
    status=0
    wait $victim || status=$?
    check "exit status $status of an interrupted demonstration, expected 143" test $status -eq 143
    check "it says how to go on" grep -q '^promptkd: interrupted; the same command goes on with what is in demo_stopped' background.err
    run 0 $set_demo --out demo_stopped
    check "it goes on" grep -q 'continuing after epoch' stdout
    for file in bundle.safetensors curves.svg predictions.svg log.jsonl; do
        check "an interrupted demonstration ends as an unbroken one: $file" same demo/$file demo_stopped/$file
    done
    run 0 $set_demo --out demo_stopped
    check "a finished demonstration begins anew" test "$(grep -c 'continuing' stdout)" -eq 0
    set_demo="demo --full --images 64 --epochs 1 --test-images 100 --out demo_full"
    "$promptkd" $set_demo --threads 1 >background.out 2>&1 </dev/null &
    victim=$!
    while [ ! -s demo_full/teacher/checkpoint/elapsed.json ] && kill -0 $victim 2>/dev/null; do sleep 0.05; done
    kill -TERM $victim
    wait $victim || true
    run 0 $set_demo --threads 2
    check "its first stage goes on with other threads" grep -q 'continuing after epoch' stdout
}

# --- teacher-logits that was killed ------------------------------------------------------------------------------------
logits="teacher-logits --teacher $teacher --teacher-prompts $prompts --data folder:photos --batch 4 --threads 1"
# shellcheck disable=SC2086  # a list of words
{
    run 0 $logits --epochs 200 --out logits.safetensors
    "$promptkd" $logits --epochs 200 --out killed.safetensors >/dev/null 2>&1 </dev/null &
    victim=$!
    while [ ! -e killed.safetensors.parts/part-9.safetensors ] && kill -0 $victim 2>/dev/null; do :; done
    kill -9 $victim
    wait $victim 2>/dev/null
    check "killed before the end" test ! -e killed.safetensors
    run 0 $logits --epochs 200 --out killed.safetensors
}
check "a killed teacher-logits ends with the same file" same logits.safetensors killed.safetensors
check "and leaves nothing" test ! -e killed.safetensors.parts
check "no temporary file is left" test -z "$(find . -name '*.tmp*')"
rm -rf ./*
finish
