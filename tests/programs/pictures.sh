# SPDX-License-Identifier: Apache-2.0
# What images go through: read beside the weights in every form, decided by options, carried by bundles and conversions,
# apart for teacher and student; another resolution; images of every kind; EXIF rotation.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
formats=$data_dir/formats
photos=$data_dir/preprocess/photos
teacher=$assets/fashion_clip_teacher.safetensors
student=$assets/fashion_clip_student.safetensors
rm -rf oc hf newer plain turned kinds tiny ./*.safetensors ./*.json ./*.npy out*

# features OUT ARGUMENT…: of the photos
features() {
    file=$1
    shift
    run 0 encode --data "folder:$photos" --out "$file" "$@"
}
# differ TEXT A B
differ() {
    checks=$((checks + 1))
    if cmp -s "$2" "$3"; then complain "$1: nothing changed"; fi
}

# --- open_clip's configuration, in a folder and beside a file -----------------------------------------------------------
mkdir oc plain
cp "$formats/open_clip_gelu.safetensors" oc/open_clip_model.safetensors
cp "$formats/open_clip_gelu.safetensors" plain/model.safetensors
cp "$formats/open_clip_gelu.json" plain/model.json
cfg='{"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "resize_mode": "squash"}'
printf '{"model_cfg": %s, "preprocess_cfg": %s}\n' "$(cat "$formats/open_clip_gelu.json")" "$cfg" >oc/open_clip_config.json
features oc.safetensors --weights oc
features plain.safetensors --weights plain/model.safetensors
differ "preprocess_cfg is followed" oc.safetensors plain.safetensors
set -- --image-mean 0.5,0.4,0.3 --image-std 0.2,0.3,0.4 --interpolation bilinear --resize-mode squash
features options.safetensors --weights plain/model.safetensors "$@"
check "options say the same as preprocess_cfg" same oc.safetensors options.safetensors
cp oc/open_clip_config.json plain/model.json
features beside.safetensors --weights plain/model.safetensors
check "the same JSON beside a file" same oc.safetensors beside.safetensors
cp "$formats/open_clip_gelu.json" plain/model.json
printf '%s\n' "$cfg" >cfg.json
features named.safetensors --weights plain/model.safetensors --preprocessing cfg.json
check "the same named with --preprocessing" same oc.safetensors named.safetensors
features back.safetensors --weights oc --image-mean 0.48145466,0.4578275,0.40821073 \
    --image-std 0.26862954,0.26130258,0.27577711 --interpolation bicubic --resize-mode shortest
check "options decide against the file" same back.safetensors plain.safetensors
run 0 inspect oc
check "inspect says what images go through" grep -q '^preprocessing: .*"interpolation":"bilinear".*"resize":"squash"' stdout
run 0 inspect plain/model.safetensors
check "inspect: CLIP's" grep -q '^preprocessing: .*"interpolation":"bicubic".*"resize":"shortest"' stdout
for wrong in '"resize_mode": "stretch"' '"mean": [1, 2]' '"blur": 3'; do
    printf '{"model_cfg": %s, "preprocess_cfg": {%s}}\n' "$(cat "$formats/open_clip_gelu.json")" "$wrong" >oc/open_clip_config.json
    refuse 1 "the field '$(echo "$wrong" | cut -d '"' -f 2)' of the preprocessing" encode --weights oc --data "folder:$photos" --out x.safetensors
done
printf '{"model_cfg": %s, "preprocess_cfg": %s}\n' "$(cat "$formats/open_clip_gelu.json")" "$cfg" >oc/open_clip_config.json

# --- Hugging Face's processors, and conversions that carry what was read -------------------------------------------------
run 0 convert oc hf --to huggingface
check "a preprocessor_config.json is written" grep -q '"image_processor_type": "CLIPImageProcessor"' hf/preprocessor_config.json
features hf.safetensors --weights hf
check "converted to Hugging Face's layout: the same features" same oc.safetensors hf.safetensors
mkdir newer
cp hf/config.json hf/model.safetensors newer/
printf '{"image_processor": %s, "processor_class": "CLIPProcessor"}\n' "$(cat hf/preprocessor_config.json)" >newer/processor_config.json
features newer.safetensors --weights newer
check "processor_config.json" same oc.safetensors newer.safetensors
run 0 convert hf again.safetensors --to openai
features again_features.safetensors --weights again.safetensors
check "converted to one file: the same features" same oc.safetensors again_features.safetensors
sed 's/"do_normalize": true/"do_normalize": true, "do_pad": true/' hf/preprocessor_config.json >newer.json
mv newer.json hf/preprocessor_config.json
refuse 1 "'do_pad' of the preprocessing" encode --weights hf --data "folder:$photos" --out x.safetensors
refuse 1 'this would be lost' convert again.safetensors x.pth.tar --to checkpoint

# --- another resolution --------------------------------------------------------------------------------------------------
features large.safetensors --weights oc --resolution 40
check "inspect of the larger one" test "$(wc -c <large.safetensors)" -eq "$(wc -c <oc.safetensors)"
differ "--resolution" oc.safetensors large.safetensors
features same_size.safetensors --weights oc --resolution 24
check "--resolution of the model's own size changes nothing" same oc.safetensors same_size.safetensors
refuse 1 'less than a patch' encode --weights oc --data "folder:$photos" --resolution 4 --out x.safetensors
sed 's/"image_size": 24/"image_size": 40/' oc/open_clip_config.json >wider.json
cp wider.json oc/open_clip_config.json
features wider.safetensors --weights oc
check "an image_size in the configuration is followed, and said" grep -q 'positions of 24 pixels are interpolated for the image_size 40' stderr
check "and is the same resolution" same large.safetensors wider.safetensors

# --- teacher and student apart; the bundle carries the student's ---------------------------------------------------------
tiny_fashion tiny 64 32
views="--data fashion-mnist:tiny --batch 8 --epochs 2"
base="$views --depth 3 --threads 1"
# shellcheck disable=SC2086  # lists of options
{
    run 0 distill $models $base --out out_plain
    run 0 distill $models $base --image-mean 0.5 --image-std 0.5 --resize-mode squash --out out_own
    run 0 distill $models $base --teacher-image-mean 0.5 --teacher-image-std 0.5 --out out_teacher
}
differ "the teacher's own mean" out_plain/bundle.safetensors out_teacher/bundle.safetensors
run 0 inspect out_own/bundle.safetensors
check "the bundle carries it" grep -q '"mean":\[0.5,0.5,0.5\].*"resize":"squash"' stdout
run 0 evaluate out_own/bundle.safetensors --data fashion-mnist:tiny --json own.json
run 0 evaluate out_own/bundle.safetensors --data fashion-mnist:tiny --image-mean 0.5 --json stays.json
check "the bundle's are used" test "$(number own.json accuracy)" = "$(number stays.json accuracy)"
run 0 classify out_own/bundle.safetensors "$photos/0.png" --json one.json
run 0 classify out_own/bundle.safetensors "$photos/0.png" --image-mean 0.1 --image-std 2 --json other.json
differ "options decide against a bundle" one.json other.json
run 0 inspect out_plain/bundle.safetensors
check "a student of CLIP's preprocessing requires nothing new" test -z "$(strings out_plain/bundle.safetensors | grep image_preprocessing)"
# shellcheck disable=SC2086
{
    run 0 teacher-logits --teacher "$teacher" $views --teacher-image-mean 0.5 --teacher-image-std 0.5 --out targets.safetensors
    refuse 1 'the preprocessing' distill $models $base --teacher-logits targets.safetensors --out out_x
    run 0 distill --student "$student" $base --teacher-logits targets.safetensors --out out_stored
}
check "stored targets of the teacher's own images" same out_teacher/bundle.safetensors out_stored/bundle.safetensors

# --- images of every kind, and EXIF ---------------------------------------------------------------------------------------
mkdir kinds
cp "$data_dir"/images/* kinds/
rm kinds/expected.safetensors kinds/exif_* kinds/turned.tif
run 0 encode --weights "$student" --activation quick_gelu --data folder:kinds --out kinds.safetensors
kinds=$(find kinds -type f | wc -l)
check "images of every kind" grep -q -F "image_features ($kinds, 32)" stdout
check "nothing is said of them" test -z "$(grep warning stderr)"
mkdir turned
cp "$data_dir"/images/exif_* turned/
run 0 encode --weights "$student" --activation quick_gelu --data folder:turned --out as_stored.safetensors
check "one warning of rotated photos" grep -q "^warning: $(find turned -type f | wc -l) images carry an EXIF rotation" stderr
run 0 encode --weights "$student" --activation quick_gelu --data folder:turned --exif-rotate --out as_seen.safetensors
check "none when it is applied" test -z "$(grep warning stderr)"
differ "--exif-rotate" as_stored.safetensors as_seen.safetensors
refuse 2 'not in {' encode --weights "$student" --data folder:turned --interpolation cubic --out x.safetensors
finish
