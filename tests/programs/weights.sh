# SPDX-License-Identifier: Apache-2.0
# Weights that should load: inside other modules, the image branch alone, folders of runs; and files of another kind, named
# as what they are.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
teacher=$assets/fashion_clip_teacher.safetensors
student=$assets/fashion_clip_student.safetensors
prompts=$assets/fashion_teacher_prompts.safetensors
checkpoints=$data_dir/formats/checkpoints
rm -rf out empty dassl ./*.json
tiny_fashion tiny 64 32
# shellcheck disable=SC2086  # a list of options
run 0 distill $models --data fashion-mnist:tiny --batch 8 --epochs 1 --depth 3 --out out
bundle=out/bundle.safetensors

# --- the folder of a run ----------------------------------------------------------------------------------------------------
run 0 inspect out
check "inspect OUT" grep -q '^kind: student bundle$' stdout
run 0 evaluate out --data fashion-mnist:tiny --json folder.json
run 0 evaluate $bundle --data fashion-mnist:tiny --json file.json
check "evaluate OUT is evaluate OUT/bundle.safetensors" test "$(number folder.json accuracy)" = "$(number file.json accuracy)"
run 0 classify out "$data_dir/preprocess/photos/0.png"
mkdir -p dassl/seed1/prompt_learner empty
cp "$checkpoints/promptsrc.pth.tar" dassl/seed1/prompt_learner/model.pth.tar-20
cp "$checkpoints/coop.pth.tar" dassl/seed1/prompt_learner/model.pth.tar-5
run 0 inspect dassl/seed1
check "the checkpoint of the highest epoch" grep -q '^learner: promptsrc$' stdout
refuse 1 'no weights in this folder' inspect empty

# --- a wrong kind of file -----------------------------------------------------------------------------------------------------
set -- --data fashion-mnist:tiny
for file in $bundle "$checkpoints/promptkd_student.pth.tar"; do
    refuse 1 'evaluate' zero-shot --weights "$student" --activation quick_gelu --prompts "$file" "$@"
    # shellcheck disable=SC2086
    refuse 1 'not learned prompts' distill $models --teacher-prompts "$file" "$@" --out out_x
done
refuse 1 'a student bundle, .* not a CLIP model' encode --weights $bundle "$@" --out x.safetensors
refuse 1 'learned parameters .*not a CLIP model' zero-shot --weights "$prompts" "$@"
refuse 1 'a CLIP model, not a student bundle' evaluate "$student" "$@" --activation quick_gelu
refuse 1 'a CLIP model, not learned prompts' zero-shot --weights "$student" --activation quick_gelu --prompts "$teacher" "$@"
refuse 1 'no class vectors: it holds' distill --student "$student" --teacher "$teacher" "$@" --class-vectors "$prompts" --out out_x
safetensors '{"cls_token":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' 4 >odd.safetensors
refuse 1 "not a CLIP model: it holds 1 tensor ('cls_token')" encode --weights odd.safetensors "$@" --out x.safetensors
safetensors '{"__metadata__":null,"cls_token":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' 4 >null.safetensors
run 0 inspect null.safetensors
finish
