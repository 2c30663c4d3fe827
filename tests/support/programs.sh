# SPDX-License-Identifier: Apache-2.0
# Helpers of the program tests. A test sources this file; $1 is the program, the current folder is the test's own.
promptkd=$1
source_dir=${PROMPTKD_SOURCE_DIR:?}
data_dir=${PROMPTKD_TEST_DATA:?}
assets=$source_dir/examples/assets
fashion=fashion-mnist:${PROMPTKD_FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
models="--teacher $assets/fashion_clip_teacher.safetensors --student $assets/fashion_clip_student.safetensors"
PROMPTKD_VOCAB=$assets/fashion_bpe.txt.gz
export PROMPTKD_VOCAB
failures=0
checks=0
LC_ALL=C
export LC_ALL

# complain TEXT: one failed check, with what the program said last
complain() {
    failures=$((failures + 1))
    echo "FAILED: $1" >&2
    if [ -s stderr ]; then sed 's/^/    stderr: /' stderr | tail -n 5 >&2; fi
}

# check TEXT COMMAND…: the command must succeed
check() {
    checks=$((checks + 1))
    what=$1
    shift
    "$@" || complain "$what"
}

# run STATUS ARGUMENT…: promptkd must end with this status; its output is in the files stdout and stderr
run() {
    checks=$((checks + 1))
    expected=$1
    shift
    status=0
    "$promptkd" "$@" >stdout 2>stderr </dev/null || status=$?
    [ "$status" -eq "$expected" ] || complain "exit status $status, expected $expected: promptkd $*"
}

# refuse STATUS TEXT ARGUMENT…: promptkd must end with this status and one line of error, which contains the text
refuse() {
    text=$2
    expected=$1
    shift 2
    run "$expected" "$@"
    one_error "$text" "promptkd $*"
}

# without VALUES ARGUMENT…: VALUES, a list of options and values, without the options that are among the arguments
# (an option may be given once)
without() {
    kept=
    left=$1
    shift
    while [ -n "$left" ]; do
        name=${left%% *}
        left=${left#* }
        value=${left%% *}
        case $left in *' '*) left=${left#* } ;; *) left= ;; esac
        case " $* " in *" $name "*) ;; *) kept="$kept $name $value" ;; esac
    done
    echo "$kept"
}

# one_error TEXT WHAT: the last run wrote one line beginning with "promptkd", and it contains the text
one_error() {
    checks=$((checks + 1))
    lines=$(grep -c '^promptkd' stderr)
    [ "$lines" -eq 1 ] || complain "$lines lines of error, expected one: $2"
    grep '^promptkd' stderr | grep -q -e "$1" || complain "the error does not say '$1': $2"
}

# number FILE KEY: the first number under this key in JSON as the programs write it (a key a line)
number() { sed -n 's/^ *"'"$2"'": \(-\{0,1\}[0-9][-+.0-9e]*\),\{0,1\}$/\1/p' "$1" | head -n 1; }

# near A B TOLERANCE
near() { awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a != "" && d <= t) }'; }

# same A B: equal bytes
same() { cmp "$1" "$2" >&2; }

# losses LOG: its losses, one a line
losses() { sed -n 's/.*"loss": \([-+.0-9e]*\)}$/\1/p' "$1"; }

# safetensors HEADER SIZE: a file with this JSON header and SIZE zero bytes of data, on standard output
safetensors() {
    # shellcheck disable=SC2059  # the bytes of the length are made here
    printf "\\$(printf %03o $((${#1} % 256)))\\$(printf %03o $((${#1} / 256)))\\000\\000\\000\\000\\000\\000"
    printf %s "$1"
    head -c "$2" /dev/zero
}

# big_endian N: four bytes
big_endian() {
    # shellcheck disable=SC2059  # the bytes are made here
    printf "\\$(printf %03o $(($1 / 16777216)))\\$(printf %03o $(($1 / 65536 % 256)))\\$(printf %03o $(($1 / 256 % 256)))\\$(printf %03o $(($1 % 256)))"
}

# tiny_fashion DIR TRAIN TEST: the first so many images of Fashion-MNIST, as a data set of its own
tiny_fashion() {
    mkdir -p "$1"
    for part in "train $2" "t10k $3"; do
        count=${part#* }
        stem=${part% *}
        for kind in images-idx3-ubyte:16:784 labels-idx1-ubyte:8:1; do
            file=${kind%%:*}
            sizes=${kind#*:}
            zcat "${fashion#*:}/$stem-$file.gz" | head -c $((${sizes%:*} + count * ${sizes#*:})) >all.idx
            { head -c 4 all.idx && big_endian "$count" && tail -c +9 all.idx; } >"$1/$stem-$file"
        done
    done
    rm all.idx
}

# killed_in_the_middle OUT ARGUMENT…: runs promptkd with --out OUT and kills it (-9) once its first checkpoint is there
killed_in_the_middle() {
    out=$1
    shift
    tries=0
    while :; do
        rm -rf "$out"
        "$promptkd" "$@" --out "$out" >/dev/null 2>&1 </dev/null &
        victim=$!
        while [ ! -s "$out/checkpoint/elapsed.json" ] && kill -0 $victim 2>/dev/null; do :; done
        kill -9 $victim 2>/dev/null
        wait $victim 2>/dev/null
        tries=$((tries + 1))
        [ ! -e "$out/result.json" ] && [ -s "$out/checkpoint/elapsed.json" ] && return 0
        [ $tries -lt 5 ] || break
    done
    complain "could not be killed between its first checkpoint and its end: promptkd $*"
}

# finish: the test's exit status
finish() {
    echo "$checks checks, $failures failed"
    [ "$failures" -eq 0 ]
}
