# SPDX-License-Identifier: Apache-2.0
# Several processes under mpirun: the losses of one, sharded evaluation, rank 0 writes, a rank that dies ends the run.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"

OMPI_ALLOW_RUN_AS_ROOT=1
OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
OMPI_MCA_rmaps_base_oversubscribe=1
OMPI_MCA_mpi_yield_when_idle=1
OMPI_MCA_btl_vader_single_copy_mechanism=none
export OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM OMPI_MCA_rmaps_base_oversubscribe OMPI_MCA_mpi_yield_when_idle \
    OMPI_MCA_btl_vader_single_copy_mechanism

# ranks N STATUS ARGUMENT…: promptkd in N processes must end with this status
ranks() {
    count=$1
    expected=$2
    shift 2
    checks=$((checks + 1))
    status=0
    timeout 300 mpirun -n "$count" "$promptkd" "$@" >stdout 2>stderr </dev/null || status=$?
    [ "$status" -eq "$expected" ] || complain "exit status $status, expected $expected: mpirun -n $count promptkd $*"
}

# agree A B TOLERANCE: the losses of two logs differ by at most that much, relative
agree() {
    losses "$1/log.jsonl" >one.losses
    losses "$2/log.jsonl" >two.losses
    paste one.losses two.losses | awk -v t="$3" 'NF != 2 { bad = 1 } { d = $1 / $2 - 1; if (d < 0) d = -d; if (d > worst) worst = d }
        END { print worst > "worst"; exit !(NR > 0 && !bad && worst < t) }' || complain "$1 and $2: losses differ by $(cat worst) relative"
    checks=$((checks + 1))
}

rm -rf tiny && tiny_fashion tiny 640 2001
fashion=fashion-mnist:tiny
options="$models --teacher-prompts $assets/fashion_teacher_prompts.safetensors --data $fashion --images 640 --batch 16 --depth 3 --threads 1"
# shellcheck disable=SC2086  # a list of options
set -- distill $options
rm -rf one two three local killed dead
run 0 "$@" --steps 50 --epochs 2 --out one
ranks 2 0 "$@" --steps 50 --epochs 2 --out two
check "50 steps" test "$(wc -l <two/log.jsonl)" -eq 50
agree one two 1e-5
check "one line of result, not one a process" test "$(grep -c '^loss ' stdout)" -eq 1
for key in base new all; do
    check "$key: $(number two/result.json $key), one process: $(number one/result.json $key)" near "$(number two/result.json $key)" "$(number one/result.json $key)" 0.1
done
check "images evaluated" test "$(number two/result.json n)" = "$(number one/result.json n)"

# Three processes divide 16 images unevenly.
ranks 3 0 "$@" --steps 20 --out three
head -n 20 one/log.jsonl >first20 && mkdir -p first && mv first20 first/log.jsonl
agree three first 1e-5

# A fit in closed form, mixture and guard: the bits of one process, in any number of them.
closed="distill --fit closed-form --width 600 $models --data $fashion --images 640 --threads 1"
# shellcheck disable=SC2086
{
    run 0 $closed --out closed1
    for n in 2 3; do
        ranks $n 0 $closed --out closed$n
        check "closed form in $n processes" same closed1/bundle.safetensors closed$n/bundle.safetensors
        check "$n processes: no features left" test ! -e closed$n/features
    done
}
rm -rf closed1 closed2 closed3

# The best of three students, parts held out in turn included: every process sees the same checks.
best="distill --fit best --folds 2 --epochs 4 --rank 4 $models --data $fashion --images 120 --threads 1"
# shellcheck disable=SC2086
{
    run 0 $best --out best1
    ranks 2 0 $best --out best2
    agree best2 best1 1e-4
    for key in base new all; do
        check "best of three: $key" near "$(number best2/result.json $key)" "$(number best1/result.json $key)" 0.1
    done
}
rm -rf best1 best2

# BatchNorm of each process's own images is another computation.
ranks 2 0 "$@" --steps 5 --bn local --out local
losses local/log.jsonl | head -n 5 >local.losses
losses one/log.jsonl | head -n 5 >one.losses
check "--bn local gives the losses of --bn global" test "$(cksum <local.losses)" != "$(cksum <one.losses)"

# Sharded evaluation finds what one process finds.
run 0 evaluate two/bundle.safetensors --data "$fashion" --json alone.json
ranks 3 0 evaluate two/bundle.safetensors --data "$fashion" --json shared.json
for key in accuracy base new harmonic_mean macro_f1 n; do
    check "evaluate: $key" test "$(number shared.json $key)" = "$(number alone.json $key)"
done

# A process that dies ends all, soon, with a status that says so; the last checkpoint goes on, in any number of processes.
timeout 300 mpirun -n 2 "$promptkd" "$@" --epochs 2 --out killed >stdout 2>stderr </dev/null &
run_pid=$!
waited=0
while [ ! -s killed/checkpoint/elapsed.json ] && kill -0 $run_pid 2>/dev/null && [ $waited -lt 1200 ]; do
    sleep 0.05
    waited=$((waited + 1))
done
for pid in $(pgrep -f -- "--out killed"); do
    if tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -q '^OMPI_COMM_WORLD_RANK=1$'; then kill -9 "$pid"; fi
done
died=$(date +%s)
status=0
wait $run_pid || status=$?
check "mpirun ends with 0 although a process was killed" test $status -ne 0
check "mpirun needs $(($(date +%s) - died)) s to end" test $(($(date +%s) - died)) -le 30
check "the killed run has no bundle" test ! -e killed/bundle.safetensors
ranks 2 0 "$@" --epochs 2 --out killed
check "it goes on after the first epoch" grep -q 'continuing after epoch 1 ' stdout
ranks 2 0 "$@" --epochs 2 --out killed
check "a complete run is not repeated" grep -q 'already trained for 80 steps' stdout
run 0 "$@" --epochs 2 --out whole
agree whole killed 1e-5

# A signal to one of them: all stop after the same step, with one message, and the next call ends with the same bytes.
ranks 2 0 "$@" --epochs 2 --out unbroken
for rank in 0 1; do
    rm -rf stopped
    timeout 300 mpirun -n 2 "$promptkd" "$@" --epochs 2 --out stopped >stdout 2>stderr </dev/null &
    run_pid=$!
    while [ ! -s stopped/checkpoint/elapsed.json ] && kill -0 $run_pid 2>/dev/null; do sleep 0.02; done
    for pid in $(pgrep -f -- "--out stopped"); do
        if tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -q "^OMPI_COMM_WORLD_RANK=$rank\$"; then kill -TERM "$pid"; fi
    done
    status=0
    wait $run_pid || status=$?
    check "exit status $status after a signal to process $rank, expected 143" test $status -eq 143
    check "one process says how to go on" test "$(grep -c '^promptkd: interrupted; the same command goes on' stderr)" -eq 1
    check "nothing else is written" test ! -e stopped/bundle.safetensors
    ranks 2 0 "$@" --epochs 2 --out stopped
    check "it goes on" grep -q 'continuing after epoch 1 ' stdout
    check "an interrupted run ends as an unbroken one: the log" same unbroken/log.jsonl stopped/log.jsonl
    check "an interrupted run ends as an unbroken one: the student" same unbroken/bundle.safetensors stopped/bundle.safetensors
done

# Errors: one line of ours, every process ends.
# shellcheck disable=SC2046  # a list of options
ranks 2 1 distill $(without "$options" --data) --data folder:nowhere --out dead
one_error 'nowhere' 'mpirun, a missing folder'
# shellcheck disable=SC2046  # a list of options
ranks 2 1 distill $(without "$options" --batch) --batch 1 --out dead
one_error 'too small for 2 processes' 'mpirun, --batch 1'
ranks 2 1 zero-shot --weights "$assets/fashion_clip_teacher.safetensors" --data "$fashion"
one_error 'start it without mpirun' 'mpirun zero-shot'
ranks 2 2 "$@" --no-such-option
check "bad usage is said once" test "$(grep -c '^promptkd' stderr)" -eq 1
rm -rf tiny one two three local killed dead whole first unbroken stopped
finish
