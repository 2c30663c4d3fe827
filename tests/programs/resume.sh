# SPDX-License-Identifier: Apache-2.0
# A run killed in the middle continues bit for bit; equal runs write equal files, whatever the number of threads.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"

rm -rf tiny && tiny_fashion tiny 640 500
# shellcheck disable=SC2086  # a list of options
set -- distill $models --teacher-prompts "$assets/fashion_teacher_prompts.safetensors" --data fashion-mnist:tiny --images 640 --batch 8 --depth 3 --epochs 3

# equal A B: the files of two runs agree to the byte, but for the times and places in result.json
equal() {
    for file in log.jsonl bundle.safetensors checkpoint/state.safetensors; do
        check "$1 and $2 differ in $file" same "$1/$file" "$2/$file"
    done
    for out in "$1" "$2"; do
        grep -v -e seconds -e '"out"' -e threads -e '"fresh"' "$out/result.json" >"$out.result"
    done
    check "$1 and $2 differ in result.json" same "$1.result" "$2.result"
}

rm -rf whole killed again threads loader
run 0 "$@" --out whole
check "240 steps" test "$(wc -l <whole/log.jsonl)" -eq 240
check "shuffled epochs differ" test "$(sed -n 81p whole/log.jsonl)" != "$(sed -n 1p whole/log.jsonl)"

# Killed once the first epoch's checkpoint is there, so in the second epoch.
"$promptkd" "$@" --threads 1 --out killed >/dev/null 2>&1 &
victim=$!
waited=0
while [ ! -s killed/checkpoint/elapsed.json ] && kill -0 $victim 2>/dev/null && [ $waited -lt 600 ]; do
    sleep 0.05
    waited=$((waited + 1))
done
kill -9 $victim
wait $victim 2>/dev/null
check "the run was killed before its end" test ! -e killed/bundle.safetensors
cp -r killed interrupted
run 0 "$@" --out killed
check "it says where it continues" grep -q 'continuing after epoch [12] ' stdout
equal whole killed

# A complete run is not repeated; --fresh repeats it.
run 0 "$@" --out killed
check "it says that all is done" grep -q 'already trained for 240 steps' stdout
equal whole killed
run 0 "$@" --fresh --out killed
check "--fresh continues nothing" test "$(grep -c -e continuing -e already stdout)" -eq 0
equal whole killed

# Another run's folder is refused, and left as it is.
cp killed/config.json config.before
refuse 1 "'lr' was \"0.005\" and is now \"0.01\"" "$@" --lr 0.01 --out killed
refuse 1 "'seed' was \"1\" and is now \"2\"" "$@" --seed 2 --out killed
check "a refused run changes config.json" same config.before killed/config.json
equal whole killed

# A damaged checkpoint is an error, not a wrong continuation; a missing log is none.
head -c 3000 interrupted/checkpoint/state.safetensors >cut
cp cut interrupted/checkpoint/state.safetensors
refuse 1 'truncated' "$@" --out interrupted
: >interrupted/log.jsonl
cp whole/checkpoint/state.safetensors interrupted/checkpoint/
run 0 "$@" --out interrupted
check "a log that lacks lines is told" grep -q 'the log lacks steps before the checkpoint' stderr
check "and is no obstacle" same whole/bundle.safetensors interrupted/bundle.safetensors

# Neither the threads of the loader nor those of the computation change anything.
for threads in 0 1 3; do
    run 0 "$@" --loader-threads $threads --out loader --fresh
    check "--loader-threads $threads changes the losses" same whole/log.jsonl loader/log.jsonl
done
run 0 "$@" --threads 1 --out threads
equal whole threads
run 0 "$@" --threads 2 --out threads --fresh
equal whole threads
run 0 "$@" --seed 2 --out again
check "another seed gives another run" test "$(cksum <whole/log.jsonl)" != "$(cksum <again/log.jsonl)"
rm -rf tiny whole killed interrupted again threads loader
finish
