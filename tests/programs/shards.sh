# SPDX-License-Identifier: Apache-2.0
# Fits in closed form of more images than one run sees: features kept on the disk, killed runs, shards, two rounds of
# sums, sums added by another program, further images; stored targets in shards.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
teacher=$assets/fashion_clip_teacher.safetensors
student=$assets/fashion_clip_student.safetensors
prompts=$assets/fashion_teacher_prompts.safetensors
rm -rf tiny other whole cached again shards sums rounds killed cache later two dask logits*
tiny_fashion tiny 700 200
options="--fit closed-form --width 128 --student $student --teacher $teacher --data fashion-mnist:tiny"
closed="distill $options"

# json FILE KEY: the number or text under a key of one line
json() { sed -n 's/^ *"'"$2"'": "\{0,1\}\([^",]*\)"\{0,1\},\{0,1\}$/\1/p' "$1" | head -n 1; }

# --- features on the disk --------------------------------------------------------------------------------------------
# shellcheck disable=SC2086  # lists of options
{
    run 0 $closed --out whole
    check "features are not left behind" test ! -e whole/features
    run 0 $closed --features-cache cache --out cached
    check "16 bits: another student in its last digits alone" near "$(number cached/result.json all)" "$(number whole/result.json all)" 1
    check "half the size" test "$(cat cache/part-*.safetensors | wc -c)" -lt 150000
    run 0 $closed --features-cache cache --out again
    check "the cache gives the same student" same cached/bundle.safetensors again/bundle.safetensors
    check "nothing is encoded again" test "$(grep -c 'encode ' stderr)" -eq 0
    refuse 1 'features of something else: the weights of the teacher' distill --fit closed-form --student "$student" --teacher "$student" --data fashion-mnist:tiny --features-cache cache --out again --fresh
    refuse 1 'features of something else: the number of images: 700 there, 600' $closed --images 600 --features-cache cache --out again --fresh
    part=$(ls cache/part-*.safetensors | head -n 1)
    printf 'x' | dd of="$part" bs=1 seek=5000 conv=notrunc 2>/dev/null
    run 0 $closed --features-cache cache --out again
    check "a damaged part is said" grep -q "warning: $part: damaged" stderr
    check "and made again" same cached/bundle.safetensors again/bundle.safetensors
}

# --- killed ----------------------------------------------------------------------------------------------------------
# A run that is interrupted keeps what it encoded; the next one goes on and ends with the same bytes.
# shellcheck disable=SC2086
{
    "$promptkd" $closed --threads 1 --out killed >stdout 2>stderr </dev/null &
    pid=$!
    waited=0
    while [ ! -e killed/config.json ] && [ $waited -lt 400 ]; do
        sleep 0.02
        waited=$((waited + 1))
    done
    kill -TERM $pid 2>/dev/null || true
    wait $pid || true
    run 0 $closed --threads 1 --out killed
    check "a killed fit goes on to the same student" same killed/bundle.safetensors whole/bundle.safetensors
}

# --- shards ----------------------------------------------------------------------------------------------------------
# shellcheck disable=SC2086
{
    for i in 1 2 3; do run 0 $closed --shard $i/3 --out shards; done
    check "a shard has sums and no student" test -s shards/shard-2-of-3/sums.safetensors -a ! -e shards/shard-2-of-3/bundle.safetensors
    run 0 $closed --merge-shards --out shards
    check "shards with their features: the student of one run" same shards/bundle.safetensors whole/bundle.safetensors

    # Where the features stay where they are: moments, a second round, sums.
    mkdir sums
    for i in 1 2 3; do mv shards/shard-$i-of-3 sums/ && mv sums/shard-$i-of-3/features sums/features-$i; done
    run 0 $closed --merge-shards --out sums
    check "moments of all" grep -q 'run the second round' stdout
    for i in 1 2 3; do
        mv sums/features-$i sums/shard-$i-of-3/features
        run 0 $closed --shard $i/3 --moments sums/moments.safetensors --out sums
    done
    run 0 $closed --merge-shards --out sums
    check "said: without the step" grep -q 'the KL step, which needs a pass of its own, is left out' stdout
    run 0 $closed --no-kl-step --out again --fresh
    for key in weight temperature guard_cutoff lambda; do
        check "$key of the added sums" near "$(json sums/result.json $key)" "$(json again/result.json $key)" 0.02
    done
    check "accuracy of the added sums" near "$(number sums/result.json all)" "$(number again/result.json all)" 1
}

# --- by another program ----------------------------------------------------------------------------------------------
if python3 -c 'import numpy, safetensors' 2>/dev/null; then
    mkdir rounds
    python3 "$source_dir/bench/add_sums.py" sums/shard-*-of-3/sums.safetensors rounds/sums.safetensors
    # shellcheck disable=SC2086
    run 0 $closed --merge-shards --moments rounds/sums.safetensors --out rounds
    check "sums added by Python" near "$(number rounds/result.json all)" "$(number sums/result.json all)" 0.01
fi
if python3 -c 'import dask' 2>/dev/null; then
    # shellcheck disable=SC2086
    check "shards by Dask" env PROMPTKD="$promptkd" python3 "$source_dir/bench/dask_shards.py" 3 $options --out dask
    check "the student of one run" same dask/bundle.safetensors whole/bundle.safetensors
fi

# --- further images --------------------------------------------------------------------------------------------------
tiny_fashion other 300 200
# shellcheck disable=SC2086
{
    run 0 $closed --save-sums yesterday.safetensors --out again --fresh
    check "keeping the sums changes nothing" same again/bundle.safetensors whole/bundle.safetensors
    run 0 distill $(without "$options" --data) --data fashion-mnist:other --add-to yesterday.safetensors --save-sums both.safetensors --out later
    check "said: the first layer of the first fit" grep -q '300 images are added to the 700 of yesterday.safetensors; the first layer keeps the statistics' stdout
    check "a thousand images" test "$(json later/result.json rows)" = 1000
    refuse 1 'have the same images already' $closed --add-to yesterday.safetensors --out again
    refuse 1 'belong to another run: the width: 128' distill $(without "$options" --width --data) --width 64 --data fashion-mnist:other --add-to yesterday.safetensors --out again --fresh
    refuse 1 'belong to another run: the seed' distill $(without "$options" --data) --seed 2 --data fashion-mnist:other --add-to yesterday.safetensors --out again --fresh
}

# --- what cannot be merged -------------------------------------------------------------------------------------------
# shellcheck disable=SC2086
{
    refuse 2 "is no shard" $closed --shard 4/3 --out again
    refuse 2 "is no shard" $closed --shard 0/3 --out again
    refuse 2 "excludes" $closed --shard 1/3 --merge-shards --out shards
    refuse 1 "there is no shard to merge" $closed --merge-shards --out nowhere
    mv sums/shard-2-of-3 sums/aside
    refuse 1 "shard 2/3 is missing" $closed --merge-shards --out sums
    cp -r sums/shard-1-of-3 sums/shard-2-of-3
    refuse 1 "are in these sums twice" $closed --merge-shards --out sums
    rm -r sums/shard-2-of-3 && mv sums/aside sums/shard-2-of-3
    cp -r sums/shard-1-of-3 sums/shard-1-of-4
    refuse 1 "shards of 3 and of 4" $closed --merge-shards --out sums
    rm -r sums/shard-1-of-4
    refuse 1 "belong to another run: the seed" $closed --seed 3 --merge-shards --out sums --fresh
    refuse 1 "of other images: the number of images" $closed --images 600 --merge-shards --out sums --fresh
    refuse 1 "not the sums of a fit" $closed --shard 1/3 --moments "$student" --out sums
    refuse 2 "belongs to --fit closed-form" distill --student "$student" --teacher "$teacher" --data fashion-mnist:tiny --shard 1/2 --out again
}

# --- stored targets --------------------------------------------------------------------------------------------------
logits="teacher-logits --teacher $teacher --data fashion-mnist:tiny --augment flip --epochs 2"
# shellcheck disable=SC2086
{
    run 0 $logits --out logits.safetensors
    for i in 1 2; do run 0 $logits --shard $i/2 --out logits-two.safetensors; done
    refuse 1 'the targets of a shard' distill --student "$student" --teacher-logits logits-two.safetensors.shard-1-of-2 --data fashion-mnist:tiny --augment flip --epochs 2 --depth 3 --out again
    run 0 $logits --merge-shards --out logits-two.safetensors
    check "the targets of one run" same logits.safetensors logits-two.safetensors
    run 0 $logits --seed 2 --shard 2/2 --out logits-two.safetensors
    refuse 1 'belongs to another run' $logits --merge-shards --out logits-two.safetensors
    rm logits-two.safetensors.shard-2-of-2
    refuse 1 'shard 2/2 is missing' $logits --merge-shards --out logits-two.safetensors
}
# Several teachers and stored targets: features that stand for logits, in shards too.
two="$options --teacher-prompts none --teacher-prompts $prompts"
# shellcheck disable=SC2086
{
    run 0 distill $two --out again --fresh
    for i in 1 2; do run 0 distill $two --shard $i/2 --out two; done
    run 0 distill $two --merge-shards --out two
    check "two teachers in shards" same two/bundle.safetensors again/bundle.safetensors
}
rm -rf tiny other whole cached again shards sums rounds killed cache later two dask ./*.safetensors ./*.safetensors.shard-*
finish
