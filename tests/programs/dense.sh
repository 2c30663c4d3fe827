# SPDX-License-Identifier: Apache-2.0
# segment, detect, encode --patches, evaluate --masks and --detections, demo --dense, on rendered scenes.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
rm -rf ./*
scene_clip=$data_dir/golden/fashion_scene_clip.safetensors
dense_student=$data_dir/golden/fashion_dense_student.safetensors
teacher=$assets/fashion_clip_teacher.safetensors
prompts=$assets/fashion_teacher_prompts.safetensors
printf '%s\n' T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag 'Ankle boot' >names.txt
options="--activation quick_gelu --vocab $PROMPTKD_VOCAB"

# scenes: the same files whatever the threads, of the published generator (their hash: 20 canvases, 20 masks)
run 0 demo --dense --render scenes --seed 1 --scenes 20
check "20 scenes" test "$(ls scenes | wc -l)" -eq 41
run 0 demo --dense --render again --seed 1 --scenes 20
check "the same scenes" same scenes/scene7.png again/scene7.png
refuse 2 'goes with --dense' demo --render scenes

# segment: label maps of the pictures' size, shares, overlays, cosines
run 0 segment --weights "$scene_clip" $options --class-names names.txt scenes/scene0.png scenes/scene1.png --out maps --overlay --logits --json maps.json
for file in scene0.png scene1.png scene0.overlay.png scene0.npy; do check "segment: $file" test -s "maps/$file"; done
check "segment: cosines" grep -q "'shape': (10, 112, 112)" maps/scene0.npy
run 0 segment "$dense_student" scenes/scene0.png --out student --class-names names.txt --json student.json
check "segment: a student's shares" grep -q '"share"' student.json
run 0 segment --weights "$scene_clip" $options --class-names names.txt scenes/scene0.png --out windows --batch 100000000 --window 56 --stride 28 --pamr 2 --pamr-dilations 1,2
run 0 segment --weights "$scene_clip" $options --class-names names.txt --background 'sky, ground' scenes/scene0.png --out background --threshold 0.9 --area 0.1

# evaluate --masks
run 0 evaluate "$dense_student" --masks scenes --logit-scale 40 --json masks.json
check "evaluate --masks: a student that sees" awk -v m="$(number masks.json mIoU)" 'BEGIN { exit !(m > 30 && m < 60) }'
run 0 evaluate --weights "$scene_clip" $options --class-names names.txt --masks scenes --method clearclip --json clip.json
check "evaluate --masks: plain CLIP" awk -v m="$(number clip.json mIoU)" 'BEGIN { exit !(m > 2 && m < 20) }'

# detect: true boxes, components, segmentation; average precision
run 0 detect --weights "$teacher" --prompts "$prompts" $options --class-names names.txt --boxes scenes/boxes.json --out found.json --json found.true.json
run 0 evaluate --detections found.json --boxes scenes/boxes.json --json ap.json
check "detect: most true boxes are named rightly" awk -v m="$(number ap.json AP50)" 'BEGIN { exit !(m > 60) }'
run 0 detect --weights "$teacher" --prompts "$prompts" $options --class-names names.txt scenes/scene0.png scenes/scene1.png --nms 0.5
check "detect: components" grep -q 'scene1.png: ' stdout
run 0 detect "$dense_student" --boxes scenes/boxes.json --regions roi --batch 100000000 --out roi.json
check "detect: classes without names" grep -q 'have no names: they are the categories' stderr
run 0 evaluate --detections roi.json --boxes scenes/boxes.json
run 0 detect "$dense_student" scenes/scene1.png scenes/scene0.png --class-names names.txt --out own.json
check "detect: without ids the names stand there" grep -q '"category":"[^"]*","category_id":[0-9]*,"file_name":"scenes/scene1.png","image_id":0' own.json
refuse 1 "its file_name is 'scene1.png', but that of this id is 'scene0.png'" evaluate --detections own.json --boxes scenes/boxes.json
run 0 detect "$dense_student" scenes/scene0.png --proposals segmentation
printf 'file,x0,y0,x1,y1\nscene0.png,1,1,20,20\n' >scenes/boxes.csv
run 0 detect "$dense_student" --boxes scenes/boxes.csv --regions centered

# distill --dense: a student of images, then its patches; read by all that read bundles
mkdir -p some small nothing && cp scenes/scene0.png scenes/scene1.png some
rm -rf tiny lora full prompts windows again stopped
tiny_fashion tiny 96 50
small="--teacher $teacher --teacher-prompts $prompts --student $assets/fashion_clip_student.safetensors"
small="$small $options --data fashion-mnist:tiny --dense scenes --start-epochs 1 --epochs 2"
# shellcheck disable=SC2086  # lists of options
{
    run 0 distill $small --out lora
    check "distill --dense: regions of all pictures" test "$(number lora/result.json answers)" -gt 60
    check "distill --dense: it learns" awk -v a="$(number lora/result.json first_loss)" \
        -v b="$(number lora/result.json last_loss)" 'BEGIN { exit !(b < a) }'
    run 0 evaluate lora/bundle.safetensors --data fashion-mnist:tiny --json evaluated.json
    check "distill --dense: images are classified as before" near "$(number evaluated.json all)" \
        "$(number lora/result.json all)" 0.01
    run 0 evaluate lora/bundle.safetensors --masks scenes --logit-scale 40 --json masks.json
    check "distill --dense: patches are read" awk -v m="$(number masks.json mIoU)" 'BEGIN { exit !(m > 3) }'
    run 0 detect lora/bundle.safetensors --boxes scenes/boxes.json --regions roi
    run 0 distill --config lora/config.json --out again
    check "distill --dense: --config repeats it" same lora/bundle.safetensors again/bundle.safetensors
    run 0 distill $(without "$small" --start-epochs) --threads 1 --init lora/start/bundle.safetensors --out again --fresh
    check "distill --dense: --init in the place of its start" same lora/log.csv again/log.csv

    "$promptkd" distill $(without "$small" --epochs) --epochs 40 --out stopped >stdout 2>stderr </dev/null &
    process=$!
    until [ -s stopped/checkpoint/state.safetensors ] || ! kill -0 $process 2>/dev/null; do sleep 0.05; done
    kill -TERM $process 2>/dev/null
    wait $process
    check "distill --dense: stopped" test ! -e stopped/bundle.safetensors
    run 0 distill $(without "$small" --epochs) --epochs 40 --out stopped
    run 0 distill $(without "$small" --epochs) --epochs 40 --out again --fresh
    check "distill --dense: an interrupted run ends as another one" same stopped/bundle.safetensors again/bundle.safetensors
    check "and so does its state" same stopped/checkpoint/state.safetensors again/checkpoint/state.safetensors

    from=$(without "$small" --start-epochs)
    from="${from# } --init lora/start/bundle.safetensors"
    run 0 distill $from --adapt full --out full
    run 0 evaluate full/bundle.safetensors --masks scenes --json masks.json
    run 0 distill $from --adapt prompts --image-weight 0 --region-masks scenes --out prompts
    run 0 distill $from --region-boxes scenes/boxes.json --picture-size 56x84 --out again --fresh
    run 0 distill $from --dense-targets windows --stride 28 --out windows
    run 0 distill $from --dense-targets map --map-method maskclip --method clearclip --out again --fresh
    run 0 distill $(without "$from" --init) --init "$dense_student" --out again --fresh

    # bad input: one line each
    echo '[{"file": "else.png", "boxes": [[0, 0, 9, 9]]}]' >other.json
    for i in 0 1; do "$promptkd" segment "$dense_student" "$data_dir/golden/images/02_RGB_40x40.png" --out small >/dev/null 2>&1; cp small/02_RGB_40x40.png small/scene$i.png; done
    refuse 1 'no picture has a component' distill $from --foreground 255 --out bad
    refuse 1 'none of its boxes is of one of the pictures' distill $(without "$from" --dense) --dense some \
        --region-boxes other.json --out bad
    refuse 1 'is no folder of masks' distill $from --region-masks nowhere --out bad
    refuse 1 "has no image" distill $(without "$from" --dense) --dense nothing --out bad
    refuse 2 'is no size' distill $from --picture-size 56 --out bad
    refuse 1 'smaller than a patch' distill $from --picture-size 6x6 --out bad
    refuse 1 'a mask of 40 x 40 pixels for a picture of 112 x 112' distill $(without "$from" --dense) --dense some \
        --region-masks small --out bad
    refuse 2 'is no way of reading patches' distill $from --method densclip --out bad
    refuse 1 'belongs to a run with other settings' distill $from --adapt full --lr 0.1 --out full
    refuse 1 'a ResNet has no patches to teach' distill $(without "$small" --student) --student "$data_dir/golden/model.resnet.safetensors" --out bad
    unused='--region-masks scenes --dense-targets windows
        --window 56 --dense-targets map
        --map-method kk --dense-targets regions
        --foreground 3 --region-boxes scenes/boxes.json
        --image-batch 4 --image-weight 0
        --rank 4 --adapt full
        --body-rate 1 --adapt prompts
        --sigma 3 --method clearclip
        --start-epochs 3
        --depth 3'
    echo "$unused" | sed 's/^ *//' >unused.txt
    while read -r given; do refuse 2 "^promptkd distill: ${given%% *}:" distill $from $given --out bad; done <unused.txt
    refuse 2 'belongs to --dense' distill $(without "$small" --dense --start-epochs) --foreground 3 --out bad
    refuse 2 'does not go with --dense' distill $from --fit best --out bad
}

# demo --dense: a page of scenes before and after
rm -rf page
run 0 demo --dense --data fashion-mnist:tiny --out page --images 96 --epochs 1 --scenes 5 --train-scenes 8 --dense-epochs 2
for file in scenes.html scenes.svg report.json bundle.safetensors; do check "demo --dense: $file" test -s "page/$file"; done
check "demo --dense: three models on the page" test "$(grep -c 'mIoU' page/report.json)" -eq 3
check "demo --dense: no links" test -z "$(sed 's/http:..www.w3.org.2000.svg//g' page/scenes.html | grep -o 'https*:')"

# encode --patches
run 0 encode --weights "$scene_clip" $(echo "$options" | sed 's/--vocab.*//') --data folder:some --patches --normalize --method naclip --out patches.npy
check "encode --patches" grep -q "'shape': (2, 8, 8, 64)" patches.npy
run 0 encode --bundle "$dense_student" --data folder:some --patches --out patches.safetensors
refuse 1 'images of --data' encode --weights "$scene_clip" --patches --out x.npy

# options that a run would not look at
while read -r given; do refuse 2 "^promptkd segment: --${given%% *}:" segment "$dense_student" scenes/scene0.png --out x --$given; done <<END
prompts $prompts
background sky
template {}
vocab $PROMPTKD_VOCAB
activation gelu
stride 28
pamr-dilations 1,2
sigma 3 --method clearclip
END
while read -r given; do refuse 2 "^promptkd detect: --${given%% *}:" detect "$dense_student" --$given; done <<END
images . scenes/scene0.png
proposals segmentation --boxes scenes/boxes.json
foreground 3 --boxes scenes/boxes.json
window 56 --boxes scenes/boxes.json
logit-scale 40 scenes/scene0.png
threshold 0.5 scenes/scene0.png
method naclip scenes/scene0.png
short-side 56 --boxes scenes/boxes.json
regions roi scenes/scene0.png --proposals segmentation
END
while read -r given; do refuse 2 "^promptkd evaluate: --${given%% *}:" evaluate "$dense_student" --$given; done <<END
split train --masks scenes
per-image --masks scenes
data fashion-mnist:tiny --masks scenes
class-vectors $dense_student --masks scenes
method naclip --data fashion-mnist:tiny
layout voc22 --masks scenes
END
refuse 2 '^promptkd evaluate: --masks:' evaluate --masks scenes --detections found.json --boxes scenes/boxes.json
refuse 2 '--method: goes with --patches' encode --weights "$scene_clip" --data folder:some --method naclip --out x.npy

# bad input: one line each
: >empty.txt
refuse 1 'empty.txt' segment --weights "$scene_clip" $options --class-names empty.txt scenes/scene0.png --out x
refuse 2 'is no way of reading patches' segment "$dense_student" scenes/scene0.png --out x --method densclip
refuse 1 'smaller than a patch' segment "$dense_student" scenes/scene0.png scenes/scene1.png --out x --short-side 3
refuse 1 'windows of 5 pixels are smaller than a patch' segment "$dense_student" scenes/scene0.png scenes/scene1.png --out x --window 5
sed '2p' names.txt >twice.txt
refuse 1 "hold 'Trouser' more than once" segment --weights "$scene_clip" $options --class-names twice.txt scenes/scene0.png --out x
refuse 1 'a ResNet has no last block' segment --weights "$data_dir/golden/model.resnet.safetensors" $options --class-names names.txt scenes/scene0.png --out x
refuse 1 'a ResNet has no last block' encode --weights "$data_dir/golden/model.resnet.safetensors" --activation quick_gelu --data folder:some --patches --out x.npy
printf 'file,x0,y0,x1,y1\nscene0.png,20,1,1,20\nscene0.png,1,1,20,20\n' >scenes/inverted.csv
refuse 1 'inverted' detect "$dense_student" --boxes scenes/inverted.csv
check "detect: one wrong box leaves the others" grep -q 'scene0.png: class' stdout
check "detect: and is not taken for a picture" test "$(grep -c skipped stdout)" -eq 0
printf 'file,x0,y0,x1,y1\nscene0.png,0,0,1,200\n' >scenes/outside.csv
refuse 1 'lies outside the image of 112 x 112' detect "$dense_student" --boxes scenes/outside.csv
mkdir -p mixed/images mixed/masks
cp scenes/scene0.png mixed/images/a.png
cp scenes/scene1.png mixed/images/b.png
cp scenes/mask0.png mixed/masks/a.png
cp scenes/scene1.png mixed/masks/b.png
refuse 1 'stored in one way' evaluate "$dense_student" --masks mixed --layout folder-shifted
cp maps/scene0.png mixed/masks/b.png
head -n 3 names.txt >three.txt
refuse 1 'there are 3 classes' evaluate --weights "$scene_clip" $options --class-names three.txt --masks mixed --layout folder
mkdir -p blank/images && cp scenes/scene0.png blank/images
run 0 segment "$dense_student" scenes/scene0.png --out blank/masks --threshold 1
refuse 1 'no pixel has a label' evaluate "$dense_student" --masks blank --layout folder-shifted
cp "$data_dir/golden/images/02_RGB_40x40.png" mixed/images/b.png
refuse 1 'a mask of 112 x 112 pixels for a picture of 40 x 40' evaluate "$dense_student" --masks mixed --layout folder-shifted
# Nothing is written over a picture; ids of categories are those of the file.
cp scenes/scene0.png alone.png
before=$(cksum <alone.png)
refuse 1 'would be written over this picture' segment "$dense_student" alone.png --out .
check "the picture is as it was" test "$(cksum <alone.png)" = "$before"
sed 's/"Coat"/"coat"/' scenes/boxes.json >scenes/lower.json
refuse 1 "has no category 'Coat'" detect --weights "$teacher" $options --class-names names.txt --boxes scenes/lower.json --out bad.json
finish
