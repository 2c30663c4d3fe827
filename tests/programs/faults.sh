#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every command with one failing system call (tests/support/fault_injector.cpp): it must end with exit status 1 and one
# line, or with the results of a run without faults; and the same command again, without faults, with those results.
# Likewise killed at a call. By default some calls of each kind; all of them with PROMPTKD_FAULTS=all.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
injector=${PROMPTKD_FAULT_INJECTOR:?the library of tests/support/fault_injector.cpp}
student=$assets/fashion_clip_student.safetensors
teacher=$assets/fashion_clip_teacher.safetensors
prompts=$assets/fashion_teacher_prompts.safetensors
images=$data_dir/golden/images
here=$PWD
rm -rf work base photos scenes mark sums.ref counts
mkdir -p photos/hat photos/coat
cp "$images/02_RGB_40x40.png" photos/hat/1.png && cp "$images/08_L_28x28.png" photos/hat/2.png
cp "$images/10_RGB_87x64.png" photos/coat/1.png && cp "$images/11_RGB_64x85.png" photos/coat/2.png
photos=folder:$here/photos
one="--threads 1 --loader-threads 1"
echo bag >bag.txt
# shellcheck disable=SC2086  # lists of options
{
    run 0 distill $models --data "$photos" --batch 2 --depth 3 --epochs 1 --threads 1 --out base
    run 0 distill $models --data "$photos" --fit closed-form --width 32 --threads 1 --out base/closed
    run 0 teacher-logits --teacher "$teacher" --data "$photos" --batch 2 --epochs 1 $one --out base/logits.safetensors
}
run 0 demo --dense --render scenes --seed 1 --scenes 2
dense=$data_dir/golden/fashion_dense_student.safetensors
bundle=$here/base/bundle.safetensors
closed=$here/base/closed/bundle.safetensors
faults=0

# results: the bytes of all results in the folder work, without the times in them
results() {
    (cd work && find . -type f ! -name elapsed.json ! -name 'report.*' ! -name .lock | LC_ALL=C sort | while read -r file; do
        case $file in
        */result.json | */report.json) sed '/seconds/d; /"digest"/d' "$file" | sha256sum | sed "s|-|$file|" ;;
        *) sha256sum "$file" ;;
        esac
    done)
}

# attempt ARGUMENT…: the command in the folder work; $status
attempt() {
    status=0
    (cd work && exec "$promptkd" "$@") >stdout 2>stderr </dev/null || status=$?
}

# faulty FAULT ARGUMENT…: the same with a fault
faulty() {
    fault_now=$1
    shift
    status=0
    {
        (cd work && PROMPTKD_FAULT=$fault_now PROMPTKD_FAULT_MARK=$here/mark LD_PRELOAD=$injector exec "$promptkd" "$@") \
            >stdout 2>stderr </dev/null || status=$?
    } 2>/dev/null # "Killed"
}

# judge WHAT ARGUMENT…: the attempt that was made, then one without faults
judge() {
    what=$1
    shift
    checks=$((checks + 1))
    faults=$((faults + 1))
    case $status in
    0) results | cmp -s - sums.ref || complain "$what: exit status 0 with other results: promptkd $*" ;;
    1) one_error . "$what: promptkd $*" ;;
    137) case $what in *kill) ;; *) complain "$what: killed: promptkd $*" ;; esac ;;
    *) complain "$what: exit status $status: promptkd $*" ;;
    esac
    attempt "$@"
    [ $status -eq 0 ] || complain "$what: exit status $status of the next run: promptkd $*"
    results | cmp -s - sums.ref || complain "$what: other results of the next run: promptkd $*"
}

# next N: the next call to try
next() {
    if [ "${PROMPTKD_FAULTS-}" = all ]; then echo $(($1 + 1)); else echo $(($1 + 1 + $1 / 2)); fi
}

# injected ARGUMENT…: the command with every fault
injected() {
    [ -z "${PROMPTKD_FAULTS_OF-}" ] || [ "$PROMPTKD_FAULTS_OF" = "$1" ] || return 0
    before=$faults
    rm -rf work && mkdir work
    attempt "$@"
    [ $status -eq 0 ] || complain "exit status $status without a fault: promptkd $*"
    results >sums.ref
    for fault in write:28 write:5 read:5 fsync:5 rename:13 open:24 mmap:12 allocate:12 \
        write:kill fsync:kill rename:kill open:kill; do
        n=1
        while :; do
            rm -rf work mark && mkdir work
            faulty "${fault%:*}:$n:${fault#*:}" "$@"
            [ -e mark ] || break
            judge "$n-th ${fault%:*} ${fault#*:}" "$@"
            case $fault in allocate*) n=$(next $((n + 4))) ;; *) n=$(next $n) ;; esac
        done
    done
    echo "$((faults - before)) faults: promptkd $1 ${2##*/}"
}

# shellcheck disable=SC2086  # lists of options
{
    injected distill $models --data "$photos" --batch 2 --depth 3 --epochs 2 $one --out out
    injected distill --student "$student" --teacher-logits "$here/base/logits.safetensors" --data "$photos" --batch 2 --depth 3 --epochs 1 $one --out out
    injected distill $models --data "$photos" --fit closed-form --width 32 $one --out out
    injected teacher-logits --teacher "$teacher" --data "$photos" --batch 2 --epochs 2 $one --out logits.safetensors
    injected train coop --weights "$student" --data "$photos" --classes all --shots 1 --batch 2 --epochs 2 $one --out out
    injected reproduce few-shot --weights "$student" --learner coop --shots 1 --data "$photos" --seeds 1 --learner-batch 2 \
        --learner-epochs 2 $one --out out
    injected demo --images 16 --test-images 8 --epochs 1 --threads 1 --out out
    injected zero-shot --weights "$student" --data "$photos" --threads 1 --json zero_shot.json
    injected evaluate "$bundle" --data "$photos" --threads 1 --json evaluate.json
    injected evaluate "$closed" --data "$photos" --threads 1 --per-image --json evaluate.json
    injected classify "$bundle" "$here/photos/hat/1.png" "$here/photos/coat/1.png" --threads 1 --json classify.json
    injected export onnx "$bundle" student.onnx
    injected bundle add-classes "$closed" --class-names "$here/bag.txt" $models --threads 1 --out more.safetensors
    injected encode --weights "$student" --data "$photos" --threads 1 --out features.npy
    injected encode --weights "$student" --data "$photos" --threads 1 --out features.safetensors
    injected encode --weights "$student" --texts "$here/bag.txt" --threads 1 --out texts.safetensors
    injected segment "$dense" "$here/scenes/scene0.png" --threads 1 --out maps --overlay --logits --json segment.json
    injected detect "$dense" --boxes "$here/scenes/boxes.json" --threads 1 --out found.json --json detect.json
    injected encode --bundle "$dense" --data "$photos" --patches --threads 1 --out patches.npy
    injected evaluate "$dense" --masks "$here/scenes" --threads 1 --json masks.json
    injected demo --dense --render scenes --seed 1 --scenes 2
    injected tokenize hello --json tokens.json
    injected inspect "$teacher" --json inspect.json
    injected inspect --data "$photos" --json inspect.json
    for target in openai huggingface open_clip; do
        injected convert "$student" converted --to $target --activation quick_gelu
    done
    injected convert "$prompts" prompts.pth.tar --to checkpoint
}
echo "$faults faults"
rm -rf work base photos scenes mark sums.ref bag.txt
finish
