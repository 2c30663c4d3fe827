# SPDX-License-Identifier: Apache-2.0
# Twenty folders and lists as people have them, from an unpacked archive to the CSV of a data frame: what each holds
# (inspect), a model's accuracy on it (zero-shot), a student of its images (distill) and the classes of its files
# (classify).
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
pictures=$data_dir/pictures
student=$assets/fashion_clip_student.safetensors
kinds='bag shirt sneaker trouser'
rm -rf work
mkdir work
cd work || exit 1

# class_folders FOLDER FIRST LAST: FOLDER/{bag,shirt,sneaker,trouser}/N.png
class_folders() {
    for kind in $kinds; do
        mkdir -p "$1/$kind"
        for n in $(seq "$2" "$3"); do cp "$pictures/$kind/$n.png" "$1/$kind/"; done
    done
}

# flat FOLDER: FOLDER/KIND_N.png of all pictures
flat() {
    mkdir -p "$1"
    for kind in $kinds; do
        for n in 0 1 2 3 4 5; do cp "$pictures/$kind/$n.png" "$1/${kind}_$n.png"; done
    done
}

# rows HEADER FORMAT: a table of flat's pictures on standard output; FORMAT is printf's, for name and class
rows() {
    [ -z "$1" ] || printf '%b' "$1"
    for kind in $kinds; do
        # shellcheck disable=SC2059  # the format is the point
        for n in 0 1 2 3 4 5; do printf "$2" "${kind}_$n" "$kind"; done
    done
}

# found KEY: a count of inspect's
found() { sed -n 's/^  "'"$1"'": \([0-9]*\),\{0,1\}$/\1/p' inspected.json; }

# understood NAME DATA CLASSES TRAIN TEST [OPTION…]: every command sees so many classes and images. TRAIN and TEST are
# what inspect says; of a set without parts the student learns from a half of each class and is tested on the other.
understood() {
    name=$1 data=$2 classes=$3 train=$4 test=$5
    shift 5
    run 0 inspect --data "$data" "$@" --json inspected.json
    check "$name: inspect finds $classes classes, $train and $test images" \
        test "$(found classes) $(found train) $(found test)" = "$classes $train $test"
    run 0 zero-shot --weights "$student" --data "$data" "$@" --json zero_shot.json
    check "$name: zero-shot tests $test images" test "$(number zero_shot.json n)" = "$test"
    check "$name: among the right classes" awk -v a="$(number zero_shot.json accuracy)" 'BEGIN { exit !(a >= 70) }'
    learned=$train tested=$test half=
    if grep -q '"all": {' inspected.json; then
        learned=$((train / 2)) tested=$((train - train / 2)) half='--holdout 0.5'
    fi
    # shellcheck disable=SC2086  # lists of options
    run 0 distill $models --data "$data" "$@" $half --epochs 1 --warmup none --batch 4 --depth 3 --out run --fresh --json distilled.json
    check "$name: distill learns from $learned images of $classes classes" grep -q "^$learned images, $classes classes" stdout
    check "$name: and tests on $tested" test "$(number distilled.json n)" = "$tested"
    run 0 classify run/bundle.safetensors "${data#*:}" --top 1 --format csv
    check "$name: classify answers for each of 24 files" test "$(grep -c -E ',1,(bag|shirt|sneaker|trouser),[01]' stdout)" -eq 24
    rm -rf run
}

# The test images of a competition have no labels, which inspect and distill say.
class_folders contest/train 0 3
mkdir contest/test
cp "$pictures/bag/4.png" contest/test/
run 0 inspect --data folder:contest
check "inspect: nothing to compare with" grep -q 'no labels: there is nothing to compare with' stdout
run 0 distill $models --data folder:contest --epochs 1 --warmup none --batch 4 --depth 3 --out run --fresh
check "distill: no evaluation" grep -q "the student will not be evaluated: 'contest/test' has no labels" stdout
rm -rf run
refuse 1 'held out to choose the epoch by, 4 of each class' distill $models --data folder:contest --protocol clean --validation 4 --epochs 1 --batch 4 --depth 3 --out run

# 1-4: class folders, alone, in parts under several names
class_folders plain 0 5
understood 'class folders' folder:plain 4 24 24
class_folders parts/train 0 3
class_folders parts/test 4 5
understood 'train and test' folder:parts 4 16 8
mkdir kaggle hub upper
cp -r parts/train kaggle/train
cp -r parts/test kaggle/valid
understood 'train and valid' folder:kaggle 4 16 8
run 0 zero-shot --weights "$student" --data folder:kaggle
check "valid serves as the test, and the run says so" grep -q 'serve as the test' stdout
cp -r parts/train upper/Training
cp -r parts/test upper/Testing
understood 'Training and Testing' folder:upper 4 16 8

# 5-8: an unpacked archive, images/ inside, twice the same folder, parts inside the classes
mkdir -p archive/dataset-v2/data archive/__MACOSX inside twice/training_set twice/test_set
cp -r parts/train parts/test archive/dataset-v2/data/
echo readme >archive/dataset-v2/README.md
: >archive/__MACOSX/._train
understood 'an unpacked archive' folder:archive 4 16 8
mkdir -p inside/train inside/test
cp -r parts/train inside/train/images
cp -r parts/test inside/test/images
understood 'images inside the parts' folder:inside 4 16 8
cp -r parts/train twice/training_set/training_set
cp -r parts/test twice/test_set/test_set
understood 'a part in a folder of its name' folder:twice 4 16 8
for kind in $kinds; do
    mkdir -p "by_class/$kind"
    cp -r "parts/train/$kind" "by_class/$kind/train"
    cp -r "parts/test/$kind" "by_class/$kind/test"
done
understood 'parts inside the classes' folder:by_class 4 16 8

# 9-10: folders called by WordNet numbers and by numbers, with names beside them
mkdir numbered wordnet
n=0
for kind in $kinds; do
    cp -r "plain/$kind" "numbered/$n"
    cp -r "plain/$kind" "wordnet/n0200000$n"
    printf '%s\n' "$kind" >>names.txt
    printf 'n0200000%s %s, a synonym\n' "$n" "$kind" >>synsets.txt
    n=$((n + 1))
done
understood 'numbers and a list of names' folder:numbered 4 24 24 --class-names names.txt
understood 'WordNet numbers and a map' folder:wordnet 4 24 24 --class-names synsets.txt

# 11: other files among the images
cp -r plain mixed
echo notes >mixed/notes.txt
mkdir mixed/annotations
echo '<xml/>' >mixed/annotations/0.xml
printf 'no image' >mixed/bag/photo.heic
mv mixed/bag/0.png mixed/bag/0.PNG
understood 'other files beside the images' folder:mixed 4 24 24
run 0 zero-shot --weights "$student" --data folder:mixed
check "what is left out is named" grep -q '1 file .heic left out' stderr

# 12: an image folder with metadata
mkdir hub/train hub/test
for kind in $kinds; do
    for n in 0 1 2 3; do
        cp "$pictures/$kind/$n.png" "hub/train/$kind$n.png"
        printf '{"file_name": "%s%s.png", "label": "%s"}\n' "$kind" "$n" "$kind" >>hub/train/metadata.jsonl
    done
    for n in 4 5; do
        cp "$pictures/$kind/$n.png" "hub/test/$kind$n.png"
        printf '{"file_name": "%s%s.png", "label": "%s"}\n' "$kind" "$n" "$kind" >>hub/test/metadata.jsonl
    done
done
understood 'an image folder with metadata' folder:hub 4 16 8

# 13-20: lists
flat all
rows 'filepath,label\n' 'all/%s.png,%s\n' >open_clip.csv
understood 'filepath and label' list:open_clip.csv 4 24 24
rows '\357\273\277file;class\r\n' 'all\\%s.png;%s\r\n' >sheet.csv
understood 'a spreadsheet with semicolons and backslashes' list:sheet.csv 4 24 24
rows 'image\tcategory\tnote\n' 'all/%s.png\t%s\tx\n' >table.tsv
understood 'tabs and a further column' list:table.tsv 4 24 24
rows ',image_id,breed\n' '0,%s,%s\n' >frame.csv
understood 'the CSV of a data frame, names without extensions' list:frame.csv 4 24 24
rows '' '{"image_path": "all/%s.png", "target": "%s", "box": [1, 2]}\n' >lines.jsonl
understood 'JSON lines' list:lines.jsonl 4 24 24
{ rows '' '{"path": "all/%s.png", "label": "%s"},\n' | sed '1s/^/[/; $s/,$/]/'; } >array.json
understood 'a JSON array' list:array.json 4 24 24
rows '' 'all/%s.png %s\n' | sed 's/ bag$/ 0/; s/ shirt$/ 1/; s/ sneaker$/ 2/; s/ trouser$/ 3/' >positions.txt
understood 'paths and positions' list:positions.txt 4 24 24 --class-names names.txt
rows 'path,label\n' '/home/somebody/photos/all/%s.png,%s\n' | awk -F, 'NR == 1 { print $0 ",split"; next } { print $0 "," (NR % 3 == 0 ? "val" : "train") }' >elsewhere.csv
understood 'paths of another machine and a column of parts' list:elsewhere.csv 4 16 8

# What is no data set is answered by what was found.
rows 'picture_of,kind\n' 'all/%s.png,%s\n' >unknown.csv
refuse 1 "the columns 'picture_of', 'kind' are none of those expected" zero-shot --weights "$student" --data list:unknown.csv
mkdir -p levels/things
cp -r plain levels/clothes
mv levels/clothes/bag levels/clothes/sneaker levels/things/
refuse 1 "could be 'clothes', 'things' or the folders below them" zero-shot --weights "$student" --data folder:levels
run 0 zero-shot --weights "$student" --data folder:levels --class-names names.txt --json zero_shot.json
check "class names tell which" test "$(number zero_shot.json n)" = 24

# classify for everyone: a bundle or plain CLIP weights, files, folders, lists and standard input, in every form.
run 0 distill $models --data folder:plain --holdout 1 --epochs 1 --warmup none --batch 4 --depth 3 --out run
run 0 classify run/bundle.safetensors plain/bag frame.csv plain/shirt/0.png
check "a folder, a list and a file" test "$(wc -l <stdout)" -eq 31
find plain -name '*.png' | sort | "$promptkd" classify run/bundle.safetensors - --format jsonl >lines 2>/dev/null
check "standard input, JSON lines" test "$(grep -c '^{"file":"plain/.*"top":\[{"class":"' lines)" -eq 24
run 0 classify run/bundle.safetensors plain/bag --threshold 1
check "no class reaches the threshold" test "$(grep -c 'no class of 1 or more' stdout)" -eq 6
run 0 classify run/bundle.safetensors plain/bag --threshold 1 --format csv
check "a file without a class is not lost" test "$(grep -c ',,,$' stdout)" -eq 6
clip="--weights $student --class-names names.txt"
# shellcheck disable=SC2086  # a list of options
run 0 classify $clip plain --top 1 --format csv
sed '1d; s#^plain/\([a-z]*\)/[0-9]*.png,1,\([a-z]*\),.*#\1 \2#' stdout | awk '$1 == $2' >right
run 0 zero-shot --weights "$student" --data folder:plain --json zero_shot.json
check "plain CLIP decides as zero-shot does" awk -v a="$(number zero_shot.json accuracy)" -v n="$(wc -l <right)" 'BEGIN { d = a - n / 0.24; exit !(d < 0.01 && d > -0.01) }'
# shellcheck disable=SC2086
run 0 classify $clip plain/bag/0.png --precision bf16 --top 1
# shellcheck disable=SC2086
run 0 classify $clip plain/bag/0.png --precision int8 --top 1
run 0 zero-shot --weights "$student" --data folder:plain --precision bf16
run 0 zero-shot --weights "$student" --data folder:plain --precision int8
run 0 encode --weights "$student" --data folder:plain --precision int8 --out features.npy
run 0 evaluate run/bundle.safetensors --data folder:plain --precision bf16
run 0 evaluate run/bundle.safetensors --data folder:plain --precision int8
run 0 classify --weights "$assets/fashion_clip_teacher.safetensors" --prompts "$assets/fashion_teacher_prompts.safetensors" --class-names names.txt plain/bag/0.png
check "learned prompts" test "$(grep -c '^plain/bag/0.png  ' stdout)" -eq 1
refuse 1 'needs --class-names' classify --weights "$student" plain/bag/0.png
refuse 2 'bundle' classify
refuse 2 'images' classify run/bundle.safetensors
refuse 1 'frozen image encoders on the CPU' distill $models --data folder:plain --precision int8 --out other

# Texts: ensembles, sentences, published sets, long ones.
run 0 zero-shot --weights "$student" --data folder:plain --template 'a photo of a {}.' --template 'a drawing of a {}.' --json two.json
printf 'a photo of a {}.\n\na drawing of a {}.\n' >templates.txt
run 0 zero-shot --weights "$student" --data folder:plain --templates templates.txt --json file.json
check "templates of options and of a file" test "$(number two.json accuracy) $(number two.json macro_f1)" = "$(number file.json accuracy) $(number file.json macro_f1)"
check "the configuration names them" grep -q '"a drawing of a {}."' two.json
run 0 zero-shot --weights "$student" --data folder:plain --templates imagenet
refuse 1 'no published set of this name; known: published, imagenet, ' zero-shot --weights "$student" --data folder:plain --templates nowhere
refuse 1 "has no '{}'" zero-shot --weights "$student" --data folder:plain --template 'a photo' --template '{}'
printf '{"bag": ["a bag.", "a thing with handles."], "shirt": "a shirt.", "sneaker": ["a shoe."], "trouser": ["two legs."]}' >sentences.json
run 0 zero-shot --weights "$student" --data folder:plain --descriptions sentences.json
printf '{"bag": "a bag."}' >sentences.json
refuse 1 'has no sentence for 3 of 4 classes' zero-shot --weights "$student" --data folder:plain --descriptions sentences.json
refuse 1 'do not go with learned text prompts' zero-shot --weights "$assets/fashion_clip_teacher.safetensors" --prompts "$assets/fashion_teacher_prompts.safetensors" --data folder:plain --templates imagenet
long='a photo of a {} that is so long that no context of the small models of this test holds all of its many words'
refuse 1 'ask for truncation' zero-shot --weights "$student" --data folder:plain --template "$long"
run 0 zero-shot --weights "$student" --data folder:plain --template "$long" --truncate
run 0 tokenize --context 6 --truncate 'a photo of a bag and more'
check "the end token stays last" grep -q '^\[\[836,.*,837\]\]$' stdout
run 0 distill $models --data folder:plain --templates templates.txt --holdout 1 --epochs 1 --warmup none --batch 4 --depth 3 --out run --fresh
echo boot >more.txt
more="bundle add-classes run/bundle.safetensors --class-names more.txt --teacher $assets/fashion_clip_teacher.safetensors"
# shellcheck disable=SC2086  # lists of options
refuse 1 'had several texts each' $more --out more.safetensors
# shellcheck disable=SC2086
run 0 $more --templates templates.txt --out more.safetensors
run 0 classify more.safetensors plain/bag/0.png --top 5 --format csv
check "five classes with the new one" grep -q ',boot,' stdout

# One precision for every command that encodes.
for precision in bf16 int8; do
    run 0 teacher-logits --teacher "$assets/fashion_clip_teacher.safetensors" --data folder:plain --batch 4 --epochs 1 --precision $precision --out $precision.safetensors
done
run 0 teacher-logits --teacher "$assets/fashion_clip_teacher.safetensors" --data folder:plain --batch 4 --epochs 1 --int8-teacher --out teacher.safetensors
check "int8 is the teacher's" cmp -s int8.safetensors teacher.safetensors
run 0 distill --teacher-logits int8.safetensors --student "$student" --data folder:plain --templates imagenet --batch 4 --epochs 1 --warmup none --depth 3 --out run --fresh
check "texts that are not used are said" grep -q 'the class vectors come from a file' stderr
refuse 1 'computes in fp32, bf16 or int8' zero-shot --weights "$student" --data folder:plain --precision fp16
refuse 2 '--class-names: goes with --weights' classify more.safetensors plain/bag/0.png --class-names more.txt
refuse 2 'must be a number from 0 to 1, found 2' classify more.safetensors plain --threshold 2

# The tokenizer beside the weights, as Hugging Face writes it.
mkdir model
cp "$student" model/model.safetensors
zcat "$PROMPTKD_VOCAB" >model/merges.txt
(unset PROMPTKD_VOCAB && "$promptkd" zero-shot --weights model/model.safetensors --data folder:plain --json beside.json >stdout 2>stderr)
check "the tokenizer beside the weights" test "$(number beside.json accuracy)" = "$(number zero_shot.json accuracy)"
echo '{"tokenizer_class": "BertTokenizer"}' >model/tokenizer_config.json
refuse 1 "is a 'BertTokenizer'" zero-shot --weights model/model.safetensors --data folder:plain
cd ..
rm -rf work
finish
