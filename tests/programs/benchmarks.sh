# SPDX-License-Identifier: Apache-2.0
# `inspect --data` on miniature trees in all fifteen published layouts, complete and with something missing.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
. "$source_dir/tests/support/trees.sh"
rm -rf root
make_trees root

# found KEY: what inspect found (the published numbers stand under the same keys, further in)
found() { sed -n 's/^  "'"$1"'": \([0-9]*\),\{0,1\}$/\1/p' found.json; }

# counts NAME CLASSES TRAIN BASE NEW: what inspect finds. The sizes are not the published ones, which it says.
counts() {
    run 1 inspect --data "$1:root" --json found.json
    one_error "$1:root: not the published data set: .* problem(s), the first: classes: $2, published " "inspect $1"
    check "$1: classes $2, train $3, base $4, new $5" test \
        "$(found classes) $(found train) $(found test_base) $(found test_new)" = "$2 $3 $4 $5"
    check "$1: nothing but sizes is wrong" test "$(sed -n '/"problems"/,/\]/p' found.json | grep -c -e missing -e 'no ')" -eq 0
    check "$1: the published number of classes stands beside it" test "$(grep -c '"published"' found.json)" -eq 1
}
counts imagenet 4 24 12 12
counts caltech101 4 20 6 6
counts oxford_pets 4 16 6 6
counts stanford_cars 4 16 4 4
counts oxford_flowers 4 16 4 4
counts food101 4 16 4 4
counts fgvc_aircraft 4 16 8 8
counts sun397 4 12 6 6
counts dtd 4 20 6 6
counts eurosat 4 20 6 6
counts ucf101 4 20 6 6
counts imagenetv2 4 0 8 8
counts imagenet_sketch 4 0 8 8
counts imagenet_a 3 0 8 4
counts imagenet_r 3 0 8 4

# lacks NAME PATH TEXT: without PATH, inspect says TEXT; then it is put back.
lacks() {
    mv "root/$2" aside
    refuse 1 "$3" inspect --data "$1:root"
    mv aside "root/$2"
}
lacks imagenet imagenet/classnames.txt 'classnames.txt'
lacks imagenet imagenet/images/val "root/imagenet/images/val"
lacks imagenet imagenet/images/train "root/imagenet/images/train"
lacks caltech101 caltech-101/101_ObjectCategories "caltech-101/101_ObjectCategories"
lacks oxford_pets oxford_pets/annotations/test.txt 'annotations/test.txt'
lacks oxford_pets oxford_pets/images/beagle_1.jpg 'images are missing, the first is .root/oxford_pets/images/beagle_1.jpg'
lacks stanford_cars stanford_cars/split_zhou_StanfordCars.json 'only the MATLAB annotations'
lacks oxford_flowers oxford_flowers/split_zhou_OxfordFlowers.json "split_zhou_OxfordFlowers.json' is missing"
lacks food101 food-101/images/2 '4 of 16 train images are missing, the first is .root/food-101/images/2/image1.jpg'
lacks fgvc_aircraft fgvc_aircraft/variants.txt 'variants.txt'
lacks fgvc_aircraft fgvc_aircraft/images_variant_test.txt 'images_variant_test.txt'
lacks sun397 sun397/SUN397/ClassName.txt 'ClassName.txt'
lacks sun397 sun397/SUN397/b/beach/image3.jpg 'images are missing, the first is .*beach/image3.jpg'
lacks dtd dtd "there is no folder 'root/dtd'; ROOT is the folder that holds 'dtd'"
lacks eurosat eurosat/2750 'eurosat/2750'
lacks ucf101 ucf101 "there is no folder 'root/ucf101'"
lacks imagenetv2 imagenetv2/imagenetv2-matched-frequency-format-val/2 "val/2' is missing, the folder of class 'coat'"
lacks imagenet_sketch imagenet-sketch/images "imagenet-sketch/images"
mkdir -p root/imagenet-adversarial/imagenet-a/n09
refuse 1 "imagenet-a/n09': this folder is not in classnames.txt" inspect --data imagenet_a:root
rmdir root/imagenet-adversarial/imagenet-a/n09
mkdir root/dtd/images/empty
refuse 1 "class 'empty' has no image" inspect --data dtd:root
rmdir root/dtd/images/empty

# Split files that are wrong.
split=root/stanford_cars/split_zhou_StanfordCars.json
cp $split good.json
# spoiled TEXT SED: the split file changed by SED is refused with TEXT
spoiled() {
    sed "$2" good.json >$split
    refuse 1 "$1" inspect --data stanford_cars:root
}
spoiled "outside the image folder" 's#0/image1.jpg#../../image1.jpg#'
spoiled "outside the image folder" 's#0/image1.jpg#/etc/passwd#'
spoiled 'is not \[path, label, class name\]' 's#, 0, "2012 Audi A5"\]#, "0", "2012 Audi A5"]#'
spoiled 'is not \[path, label, class name\]' 's#, 0, "2012 Audi A5"\]#, -1, "2012 Audi A5"]#'
spoiled "same class name '2012 Audi A5'" 's#2010 BMW M5#2012 Audi A5#g'
spoiled '"test" is missing' 's#"test"#"text"#'
spoiled 'not valid JSON' 's#\]}$##'
spoiled 'class name' 's#"2012 Audi A5"#""#g'
printf '\377' >$split
refuse 1 'not valid UTF-8' inspect --data stanford_cars:root
cp good.json $split
refuse 1 "unknown data set 'flowers'; known: .*oxford_flowers" inspect --data flowers:root
rm -rf root
finish
