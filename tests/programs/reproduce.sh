# SPDX-License-Identifier: Apache-2.0
# `reproduce`: plan, run, kill -9 and resume, skip, refuse; every protocol, on Fashion-MNIST and miniature benchmark trees.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
. "$source_dir/tests/support/trees.sh"
rm -rf whole killed root out
small="--learner-depth 3 --learner-batch 8 --learner-epochs 3 --depth 3 --batch 8 --epochs 4 --images 200 --test-images 300"

# --- the plan, which touches nothing ------------------------------------------------------------------------------------
# shellcheck disable=SC2086  # a list of options
set -- reproduce base-to-novel $models --data "$fashion" --seeds 1,2 --shots 8 $small
run 0 "$@" --out whole --dry-run --json plan.json
check "--dry-run touches nothing" test ! -e whole
check "the plan's totals" grep -q '^base-to-novel: 6 stages on 1 data set(s), 6 to do: 230 training steps on 1840 images, 1800 images to test$' stdout
check "the plan's teacher" grep -q '^fashion-mnist/seed2/teacher: PromptSRC teacher, 40 images, 15 steps of 8, tested on 300 images; to do$' stdout
check "the plan's student" grep -q '^fashion-mnist/seed1/student: PromptKD, 200 images, 100 steps of 8, ' stdout
check "the published recipe where nothing else is asked for" grep -q '"lr": 0.005' plan.json

# --- a whole run and its report ------------------------------------------------------------------------------------------
run 0 "$@" --out whole
for file in report.md report.json report.html config.json fashion-mnist/seed2/student/bundle.safetensors fashion-mnist/seed1/teacher/prompts.safetensors; do
    check "whole/$file" test -s whole/$file
done
check "complete" grep -q '"complete": true' whole/report.json
check "the student's row" grep -q '^| PromptKD | [0-9.]* ± [0-9.]* | [0-9.]* ± [0-9.]* | [0-9.]* ± [0-9.]* |$' whole/report.md
check "the weights' fingerprint" grep -q "$(sha256sum "$assets/fashion_clip_teacher.safetensors" | cut -d ' ' -f 1)" whole/report.md
check "the recipe" grep -q 'gaussian-mean 15.*learner promptsrc.*shots 8' whole/report.md
check "the protocol" grep -q '^# PromptKD, base-to-novel$' whole/report.md
check "the page needs nothing else" test "$(grep -c -e 'src=' -e 'href=' -e '<script' -e 'url(' whole/report.html)" -eq 0
check "the page has plots" test "$(grep -c '^<svg' whole/report.html)" -eq 3
run 0 evaluate whole/fashion-mnist/seed1/student/bundle.safetensors --data "$fashion" --images 300 --json evaluated.json
check "the bundle has the accuracy of its result" test "$(number evaluated.json base)" = "$(number whole/fashion-mnist/seed1/student/result.json base)"

# --- killed twice, in the student and in the teacher; the report is the same ---------------------------------------------
# killed_at FILE: starts the run and kills it once FILE is there
killed_at() {
    "$promptkd" "$@" >/dev/null 2>&1 &
    victim=$!
    waited=0
    while [ ! -s "$watched" ] && kill -0 $victim 2>/dev/null && [ $waited -lt 1200 ]; do
        sleep 0.05
        waited=$((waited + 1))
    done
    kill -9 $victim 2>/dev/null
    wait $victim 2>/dev/null
    check "killed after $watched" test -s "$watched"
}
watched=killed/fashion-mnist/seed1/teacher/checkpoint/elapsed.json
killed_at "$@" --out killed
watched=killed/fashion-mnist/seed1/student/checkpoint/elapsed.json
killed_at "$@" --out killed
check "killed before its end" test ! -e killed/fashion-mnist/seed2/student/result.json
run 0 "$@" --out killed --dry-run
check "the plan knows what is done" grep -q '^fashion-mnist/zero-shot: .*; done$' stdout
check "the plan knows what was interrupted" grep -q '^fashion-mnist/seed1/student: .*; interrupted$' stdout
run 0 "$@" --out killed
check "what is done is skipped" test "$(grep -c '/zero-shot' stdout)" -eq 0
for file in report.json report.md report.html fashion-mnist/seed1/teacher/prompts.safetensors fashion-mnist/seed1/student/checkpoint/state.safetensors fashion-mnist/seed2/student/checkpoint/state.safetensors; do
    check "killed and resumed: $file" same whole/$file killed/$file
done
run 0 "$@" --out killed
check "a complete run is not repeated" grep -q ' 0 to do: 0 training steps' stdout
check "and trains nothing" test ! -s stderr
check "its report stays" same whole/report.json killed/report.json

# One more seed: only that is run.
# shellcheck disable=SC2086
run 0 reproduce base-to-novel $models --data "$fashion" --seeds 1,2,3 --shots 8 $small --out killed --dry-run
check "a further seed" grep -q '^base-to-novel: 8 stages on 1 data set(s), 2 to do: 115 training steps' stdout

# Other settings are refused and change nothing.
refuse 1 "killed/fashion-mnist/seed1/student/result.json: .*other settings: 'lr' was 0.005 and is now 0.01" "$@" --lr 0.01 --out killed
# shellcheck disable=SC2086
refuse 1 "'shots' was 8 and is now 4" reproduce base-to-novel $models --data "$fashion" --seeds 1,2 --shots 4 $small --out killed
check "the report stays" same whole/report.json killed/report.json
rm -rf whole killed

# --- the other protocols on miniature trees ----------------------------------------------------------------------------
make_trees root
tiny="--allow-incomplete --learner-depth 3 --learner-epochs 1 --learner-batch 4 --seeds 1 --shots 2"
# shellcheck disable=SC2086  # lists of options
run 0 reproduce base-to-novel $models $tiny --depth 3 --epochs 1 --batch 4 --data dtd:root --data eurosat:root --data oxford_pets:root --out out
check "published numbers beside ours" grep -q '^| published | 85.84 | 71.37 | 77.94 |$' out/report.md
check "zero-shot beside CLIP's" grep -q '^| published | 53.24 | 59.90 | 56.37 |$' out/report.md
check "the average of the three, beside the published one" grep -q '^| published | 93.23 | 83.82 | ' out/report.md
check "kd_weight 200 on DTD alone" test "$(grep -c 'kd-weight 200,' out/report.md) $(grep -c 'kd-weight 1000,' out/report.md)" = '1 2'
check "what is not the published data set is marked in every table" test "$(grep -c '^## .*incomplete' out/report.md) $(grep -c '^## average of 3 data sets (3 incomplete)' out/report.md)" = '4 1'
check "and the report says why" grep -q 'NOT THE PUBLISHED DATA SET: dtd: classes: 4, published 47' out/report.md
rm -rf out
# shellcheck disable=SC2086
refuse 1 'dtd:root: not the published data set: classes: 4, published 47' reproduce base-to-novel $models --data dtd:root --out out
check "nothing is begun" test ! -e out
# shellcheck disable=SC2086
run 0 reproduce cross-dataset $models $tiny --depth 3 --epochs 1 --batch 4 --source imagenet:root --data food101:root --data sun397:root --out out
check "one teacher for all" test -s out/source-imagenet/seed1/teacher/prompts.safetensors
check "a column for each target" grep -q '^| accuracy, % | food101 (incomplete) | sun397 (incomplete) | average |$' out/report.md
run 0 inspect out/food101/seed1/student/bundle.safetensors
check "the student has the target's class names" grep -q '^class_names: \["apple_pie","baklava","ramen","waffles"\]$' stdout
rm -rf out
# shellcheck disable=SC2086
run 0 reproduce domain-generalization $models $tiny --depth 3 --epochs 1 --batch 4 --source imagenet:root --data all:root --out out
check "the four variants" grep -q '^| accuracy, % | imagenetv2 (incomplete) | imagenet_sketch (incomplete) | imagenet_a (incomplete) | imagenet_r (incomplete) | average |$' out/report.md
check "the published average" test "$(sed -n '/^| PromptKD /,/published/p' out/report.md | tail -n 1)" = '| published |  |  |  |  | 71.47 |'
rm -rf out
# shellcheck disable=SC2086
run 0 reproduce few-shot --allow-incomplete --weights "$assets/fashion_clip_student.safetensors" --learner coop --learner-epochs 1 --learner-batch 32 --seeds 1,2 --shots 1,2,4 \
    --data caltech101:root --data fgvc_aircraft:root --out out
check "a column for each number of images" grep -q '^| accuracy, % | 1 image | 2 images | 4 images |$' out/report.md
check "the learner's row" grep -q '^| CoOp | [0-9.]* ± [0-9.]* | [0-9.]* ± [0-9.]* | [0-9.]* ± [0-9.]* |$' out/report.md
rm -rf out

# A teacher that is there already: the published checkpoint, and none.
cp "$data_dir/formats/checkpoints/promptsrc.pth.tar" seed1.pth.tar
# shellcheck disable=SC2086
run 0 reproduce base-to-novel $models --seeds 1 --depth 3 --epochs 1 --images 80 --test-images 200 --data "$fashion" --out out --teacher-prompts 'seed{seed}.pth.tar'
check "the given teacher is tested" grep -q '^| given teacher | ' out/report.md
rm -rf out
# shellcheck disable=SC2086
run 0 reproduce base-to-novel $models --seeds 1 --depth 3 --epochs 1 --images 20 --test-images 200 --data "$fashion" --out out --learner none
check "a teacher without prompts" test "$(grep -c 'PromptSRC' out/report.md)" -eq 0
# shellcheck disable=SC2086
set -- reproduce base-to-novel $models --seeds 1 --depth 3 --epochs 1 --images 20 --test-images 200 --data "$fashion" --out out --learner none
run 0 "$@" --beside closed-form --beside best
check "students of other fits beside the published one" test "$(grep -c -e '^| PromptKD |' -e '^| student in closed form |' -e '^| best of three students |' out/report.md)" -eq 3
check "the best of three has a bundle" test -s out/fashion-mnist/seed1/student-best/bundle.safetensors
run 0 "$@" --beside closed-form --beside best
check "what is done is not repeated" grep -q ' 0 to do' stdout

# --- bad usage and bad input -----------------------------------------------------------------------------------------------
rm -rf out
refuse 2 'protocol' reproduce sometimes --data "$fashion" --out out
refuse 2 'give --teacher and --student' reproduce few-shot --data "$fashion" --out out
refuse 2 'needs both' reproduce few-shot --teacher a --data "$fashion" --out out
refuse 2 'belong to a student' reproduce few-shot --weights a --epochs 3 --data "$fashion" --out out
# shellcheck disable=SC2086
refuse 2 'cocoop' reproduce base-to-novel $models --learner cocoop --data "$fashion" --out out
# shellcheck disable=SC2086
refuse 2 'is there already' reproduce base-to-novel $models --beside best --beside best --data "$fashion" --out out
# shellcheck disable=SC2086
refuse 2 "found 'x' in '1,x'" reproduce base-to-novel $models --seeds 1,x --data "$fashion" --out out
# shellcheck disable=SC2086
refuse 2 'stands twice in' reproduce base-to-novel $models --seeds 1,1 --data "$fashion" --out out
# shellcheck disable=SC2086
refuse 2 'only few-shot' reproduce base-to-novel $models --shots 1,2 --data "$fashion" --out out
# shellcheck disable=SC2086
refuse 1 '--source' reproduce cross-dataset $models --data dtd:root --out out
# shellcheck disable=SC2086
refuse 1 "there is no folder 'nowhere/dtd'" reproduce base-to-novel $models --data dtd:nowhere --out out
# shellcheck disable=SC2086
run 0 reproduce base-to-novel $models --allow-incomplete --learner-batch 64 --data dtd:root --out out --dry-run
check "a set smaller than a batch is one batch" grep -q '10 images, [0-9]* steps of 10, ' stdout
refuse 1 'absent.pt' reproduce base-to-novel --teacher absent.pt --student absent.pt --allow-incomplete --data dtd:root --out out
check "bad input leaves no output folder" test ! -e out
rm -rf root
finish
