# SPDX-License-Identifier: Apache-2.0
# classify --serve: the answers of classify over HTTP, many clients at a time, what is refused and how, both kinds of
# addresses, a clean end.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
rm -rf run pngs served.sock taken.sock
client="python3 -B $source_dir/tests/support/serve_client.py"
# shellcheck disable=SC2086  # a list of options
run 0 distill $models --data "$fashion" --images 200 --fit closed-form --width 64 --out run
python3 "$source_dir/tests/support/fashion_pngs.py" "${fashion#fashion-mnist:}" pngs 12
run 0 classify run/bundle.safetensors pngs --top 10 --flag-unfamiliar --json answers.json

# serve ARGUMENT…: starts a server and waits until it listens; its address is in $where
serve() {
    : >served.out
    "$promptkd" classify "$@" >served.out 2>served.err </dev/null &
    server=$!
    while ! grep -q '^listening on ' served.out; do
        kill -0 $server 2>/dev/null || break
        sleep 0.05
    done
    where=$(sed -n 's/^listening on \([^ ]*\): .*/\1/p' served.out)
}
# ended: the server ends with status 0 at SIGTERM, and complains of nothing
ended() {
    kill $server
    status=0
    wait $server || status=$?
    check "the server ends with status $status, 0 expected" test $status = 0
    check "it writes no error: $(head -n 1 served.err)" test ! -s served.err
}

serve run/bundle.safetensors --serve 0 --top 10 --flag-unfamiliar --max-batch 4 --max-body 100000 --max-pixels 1000000
check "it listens on this machine alone: $where" expr "$where" : 'http://127\.0\.0\.1:[1-9]' >/dev/null
check "answers" $client answers "$where" answers.json
check "many at a time" $client many "$where" answers.json
check "what is refused" $client refused "$where" pngs/00000.png
check "metrics" $client metrics "$where"
refuse 1 "cannot listen on 127.0.0.1:${where##*:}: Address already in use" classify run/bundle.safetensors \
    --serve "${where##*:}"
ended

# A socket in the file system; one that a killed server left is taken over, a file is not.
serve run/bundle.safetensors --serve ./served.sock --top 10 --flag-unfamiliar
check "the socket is its owner's" test "$(stat -c %a served.sock)" = 600
check "answers through a socket" $client answers "$where" answers.json
refuse 1 "./served.sock: another server listens there" classify run/bundle.safetensors --serve ./served.sock
kill -9 $server
wait $server 2>/dev/null
serve run/bundle.safetensors --serve ./served.sock
ended
check "the socket is gone" test ! -e served.sock
echo text >taken.sock
refuse 1 "taken.sock: this is no socket" classify run/bundle.safetensors --serve ./taken.sock
check "the file is still there" test "$(cat taken.sock)" = text

# Plain CLIP; more requests than may wait.
printf '%s\n' bag shirt sneaker >names.txt
run 0 classify --weights "$assets/fashion_clip_teacher.safetensors" --class-names names.txt pngs --json clip.json
serve --weights "$assets/fashion_clip_teacher.safetensors" --class-names names.txt --activation quick_gelu --serve 127.0.0.1:0 \
    --max-batch 1 --max-waiting 1 --threads 1
check "answers of plain CLIP" $client answers "$where" clip.json
check "too many at a time" $client crowded "$where" pngs/00000.png
ended

for bad in "65536 port" "x:y port" ":80 port" "/$(printf '%0200d' 0) 107"; do
    refuse 2 "${bad#* }" classify run/bundle.safetensors --serve "${bad% *}"
done
refuse 2 "do not go with --serve" classify run/bundle.safetensors pngs --serve 0
refuse 2 "does not go with --serve" classify run/bundle.safetensors --serve 0 --json x.json
refuse 2 "goes with --serve" classify run/bundle.safetensors pngs --max-batch 4
refuse 2 "max-seconds" classify run/bundle.safetensors --serve 0 --max-seconds 1e9
finish
