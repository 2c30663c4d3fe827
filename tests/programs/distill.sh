# SPDX-License-Identifier: Apache-2.0
# The deterministic trajectory of the published code through the program: 60 losses and the accuracies after them.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
trajectory=$assets/trajectory.safetensors

# tensor FILE NAME: the floats of a tensor, one a line
tensor() {
    length=$(od -An -N8 -tu8 "$1" | tr -d ' ')
    offsets=$(head -c $((8 + length)) "$1" | tail -c +9 | sed 's/.*"'"$2"'":{[^}]*"data_offsets":\[\([0-9]*\),\([0-9]*\)\].*/\1 \2/')
    set -- "$1" "${offsets% *}" "${offsets#* }"
    tail -c +$((9 + length + $2)) "$1" | head -c $(($3 - $2)) | od -An -v -tf4 -w4 | tr -d ' '
}

# trajectory_run OUT OPTION…
trajectory_run() {
    out=$1
    shift
    # shellcheck disable=SC2086  # a list of options
    run 0 distill $models --init "$trajectory" --data "$fashion" --batch 32 --steps 60 --order file --augment none --schedule constant \
        --lr 0.005 --prompts 4 --depth 3 --fresh --out "$out" "$@"
    losses "$out/log.jsonl" >"$out.losses"
    check "$out: 60 steps" test "$(wc -l <"$out.losses")" -eq 60
    paste "$out.losses" expected.losses | awk '{ d = $1 / $2 - 1; if (d < 0) d = -d; if (d > worst) worst = d } END { print worst; exit !(worst < 1e-4) }' >"$out.worst" ||
        complain "$out: the losses differ by up to $(cat "$out.worst") relative"
    for figure in base:73.76 new:83.70 all:69.73; do
        found=$(number "$out/result.json" "${figure%:*}")
        check "$out: ${figure%:*} is $found, expected ${figure#*:}" near "$found" "${figure#*:}" 0.05
    done
    check "$out: steps in result.json" test "$(number "$out/result.json" steps)" = 60
}

tensor "$trajectory" losses >expected.losses
check "60 expected losses" test "$(wc -l <expected.losses)" -eq 60
trajectory_run from_text --teacher-prompts "$assets/fashion_teacher_prompts.safetensors" --template "a photo of a {}."
trajectory_run from_vectors --teacher-prompts "$assets/fashion_teacher_prompts.safetensors" --class-vectors "$trajectory"
check "the two runs say the same of the student" test "$(number from_text/result.json harmonic_mean)" = "$(number from_vectors/result.json harmonic_mean)"

# The bundle alone gives the accuracy of the run that wrote it.
run 0 evaluate from_text/bundle.safetensors --data "$fashion" --json evaluated.json
for key in base new all macro_f1; do
    check "evaluate: $key" test "$(number evaluated.json $key)" = "$(number from_text/result.json $key)"
done
finish
