# SPDX-License-Identifier: Apache-2.0
# Models of other families than CLIP: inspect, encode, convert, and a distillation from them with class vectors.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
encoders=$data_dir/encoders

# inspect prints family and policies
run 0 inspect "$encoders/pe_oc" --json pe.json
for figure in '"family": "PE"' '"pooling": "attention"' '"rotation": "columns_first"' '"pool_heads": 8'; do
    check "inspect pe_oc: $figure" grep -q "$figure" pe.json
done
run 0 inspect "$encoders/eva02_oc" --json eva.json
for figure in '"activation": "swiglu"' '"inner_norms": true' '"key_bias": false' '"rotation_grid": 16' '"patch_bias": true'; do
    check "inspect eva02_oc: $figure" grep -q "$figure" eva.json
done
run 0 inspect "$encoders/oc_resnet" --json resnet.json
check "inspect oc_resnet: heads of the configuration" grep -q '"pool_heads": 4' resnet.json
run 0 inspect "$encoders/timm_clip" --resolution 48 --json resized.json
check "inspect: positions interpolated" grep -q '"positions_interpolated_from": "4 x 4"' resized.json
run 0 inspect "$encoders/siglip2_hf" --json siglip.json
for figure in '"bias_of_logits": ' '"projection": false' '"family": "SigLIP"' '"class_token": false' '"eot": "last"' '"causal": false' '"activation": "gelu_tanh"'; do
    check "inspect siglip2_hf: $figure" grep -q "$figure" siglip.json
done
run 0 inspect "$encoders/oc_coca" --json coca.json
check "inspect oc_coca: what is not used" grep -q 'text_decoder.ln_final.weight' coca.json

# convert keeps everything in safetensors, and refuses layouts that have no place for it
run 0 convert "$encoders/eva02_oc" eva.safetensors --to openai
for weights in "$encoders/eva02_oc" eva.safetensors; do
    run 0 encode --weights "$weights" --tensors "$encoders/eva02_oc.expected.safetensors" --out "$(basename "$weights").features.safetensors"
done
check "converted: the same features" same eva02_oc.features.safetensors eva.safetensors.features.safetensors
refuse 1 'this would be lost: vision_.*; the layout openai' convert "$encoders/eva02_oc" eva --to huggingface
refuse 1 'this would be lost' convert "$encoders/pe_oc" pe.safetensors --to open_clip

# what another library's configuration can say is kept: the same features from the converted model
keeps() {
    run 0 convert "$encoders/$1" "kept_$1$3" --to "$2"
    for weights in "$encoders/$1" "kept_$1$3"; do
        run 0 encode --weights "$weights" --tensors "$encoders/$1.expected.safetensors" --out "$(basename "$weights").out"
    done
    check "convert $1 --to $2: the same features" same "$1.out" "kept_$1$3.out"
}
for name in oc_odd oc_layerscale oc_avg oc_clipa oc_tanh_eps oc_text_alone; do keeps "$name" open_clip .safetensors; done
for name in siglip_oc siglip2_hf; do keeps "$name" huggingface ''; done

# what is not supported is named
mkdir fast
cp "$encoders/timm_clip/open_clip_model.safetensors" fast/
sed 's/vit_large_patch14_clip_224/fastvit_mci1/' "$encoders/timm_clip/open_clip_config.json" >fast/open_clip_config.json
refuse 1 'the family fastvit is not supported' inspect fast
sed 's/vit_large_patch14_clip_224/vit_base_patch16_siglip_224/' "$encoders/timm_clip/open_clip_config.json" >fast/open_clip_config.json
refuse 1 "without 'visual.trunk.cls_token', but the weights in fast hold it" inspect fast
sed 's/"num_heads": 2/"num_heads": 20/' "$encoders/pe_oc/open_clip_config.json" >fast/open_clip_config.json
cp "$encoders/pe_oc/open_clip_model.safetensors" fast/
refuse 1 'rotary positions turn heads of 2 components' encode --weights fast --tensors "$encoders/pe_oc.expected.safetensors" --out x.safetensors

# class_vectors FILE CLASSES EMBED: class vectors that are rows of the identity
class_vectors() {
    size=$((4 * $2 * $3))
    {
        safetensors '{"class_vectors":{"dtype":"F32","shape":['"$2,$3"'],"data_offsets":[0,'"$size"']}}' 0
        row=0
        while [ "$row" -lt "$2" ]; do
            head -c $((4 * row)) /dev/zero
            printf '\000\000\200\077'
            head -c $((4 * ($3 - row - 1))) /dev/zero
            row=$((row + 1))
        done
    } >"$1"
}

# teachers of other kinds, with class vectors from a file, and a student of another kind, which its bundle describes
tiny_fashion fashion 32 16
fashion=fashion-mnist:fashion
class_vectors pe_vectors.safetensors 10 40
class_vectors siglip_vectors.safetensors 10 36
settings="--data $fashion --epochs 1 --batch 8 --prompts 2 --depth 2 --seed 1"
for teacher in pe:pe_oc siglip:siglip_oc; do
    run 0 distill --teacher "$encoders/${teacher#*:}" --class-vectors "${teacher%:*}_vectors.safetensors" \
        --student "$assets/fashion_clip_student.safetensors" $settings --out "${teacher%:*}"
    run 0 classify "${teacher%:*}/bundle.safetensors" "$data_dir/golden/images/02_RGB_40x40.png"
done
run 0 distill --teacher "$assets/fashion_clip_teacher.safetensors" --student "$encoders/eva02_oc" $settings --out eva_student
run 0 evaluate eva_student/bundle.safetensors --data "$fashion"
check "the bundle of a student of another kind says so" grep -q '"requires":.*tower' eva_student/bundle.safetensors
refuse 1 'class vectors' distill --teacher "$encoders/siglip_oc" --student "$assets/fashion_clip_student.safetensors" $settings --out none

# all weights of a student of another kind, where they are computed with as they are stored
run 0 distill --teacher "$assets/fashion_clip_teacher.safetensors" --student "$encoders/oc_layerscale" --train full \
    --lr 0.0005 $settings --out full
run 0 evaluate full/bundle.safetensors --data "$fashion"
refuse 1 'full fine-tuning does not know .* pooling by attention' distill --student "$encoders/pe_oc" --train full \
    --teacher "$assets/fashion_clip_teacher.safetensors" $settings --out none

# texts: a SigLIP model needs its own tokenizer, beside the weights or given; class vectors need none
echo 'a photo of a cat.' >texts.txt
refuse 1 'need its SentencePiece model.*class vectors in a file need none' encode --weights "$encoders/siglip2_hf" \
    --texts texts.txt --out none.safetensors
refuse 1 'class vectors' zero-shot --weights "$encoders/siglip_oc" --data "$fashion"
cp -r "$encoders/siglip2_hf" beside
cp "$data_dir/tokenizers/siglip.model" beside/spiece.model
if "$promptkd" tokenize --vocab beside/spiece.model cat >tokens.json 2>stderr; then
    run 0 encode --weights beside --texts texts.txt --out beside.safetensors
    run 0 encode --weights "$encoders/siglip2_hf" --vocab beside/spiece.model --texts texts.txt --out given.safetensors
    check "the same tokenizer, found and given" same beside.safetensors given.safetensors
    refuse 1 'no start token' train coop --truncate --weights beside --data "$fashion" --shots 1 --epochs 1 --out prompts
else
    check "a build without SentencePiece says so" grep -q 'without SentencePiece' stderr
fi

finish
