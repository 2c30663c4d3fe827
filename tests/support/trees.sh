# SPDX-License-Identifier: Apache-2.0
# Miniature benchmark data sets in the published layouts. Source support/programs.sh first.
tree_image=$data_dir/golden/images/08_L_28x28.png
tree_other=$data_dir/golden/images/02_RGB_40x40.png

# tree_images FOLDER COUNT: FOLDER/image1.jpg …
tree_images() {
    mkdir -p "$1"
    tree_i=0
    while [ $tree_i -lt "$2" ]; do
        tree_i=$((tree_i + 1))
        [ $((tree_i % 2)) -eq 0 ] && cp "$tree_image" "$1/image$tree_i.jpg" || cp "$tree_other" "$1/image$tree_i.jpg"
    done
}

# tree_split FILE NAME…: a split file over the folders 0, 1, … with 4 training, 1 validation and 2 test images a class
tree_split() {
    tree_file=$1
    shift
    tree_train='' tree_val='' tree_test='' tree_label=0
    for tree_name in "$@"; do
        for tree_i in 1 2 3 4; do tree_train="$tree_train, [\"$tree_label/image$tree_i.jpg\", $tree_label, \"$tree_name\"]"; done
        tree_val="$tree_val, [\"$tree_label/image5.jpg\", $tree_label, \"$tree_name\"]"
        for tree_i in 6 7; do tree_test="$tree_test, [\"$tree_label/image$tree_i.jpg\", $tree_label, \"$tree_name\"]"; done
        tree_label=$((tree_label + 1))
    done
    echo "{\"train\": [${tree_train#, }], \"val\": [${tree_val#, }], \"test\": [${tree_test#, }]}" >"$tree_file"
}

# tree_with_split FOLDER IMAGES SPLIT NAME…: class folders 0, 1, … and their split file
tree_with_split() {
    tree_folder=$1 tree_below=$2 tree_split=$3
    shift 3
    tree_label=0
    for tree_name in "$@"; do
        tree_images "$tree_folder${tree_below:+/$tree_below}/$tree_label" 7
        tree_label=$((tree_label + 1))
    done
    tree_split "$tree_folder/$tree_split" "$@"
}

# make_trees ROOT: all fifteen, four classes each
make_trees() {
    tree_root=$1
    for tree_part in train val; do
        for tree_name in n01 n02 n03 n04; do tree_images "$tree_root/imagenet/images/$tree_part/$tree_name" 6; done
    done
    printf 'n01 shirt\nn02 dress\nn03 coat\nn04 bag\n' >"$tree_root/imagenet/classnames.txt"
    for tree_name in airplanes Faces Faces_easy BACKGROUND_Google buddha crab; do
        tree_images "$tree_root/caltech-101/101_ObjectCategories/$tree_name" 10
    done
    tree_images "$tree_root/oxford_pets/images" 1
    mkdir -p "$tree_root/oxford_pets/annotations"
    : >"$tree_root/oxford_pets/annotations/trainval.txt"
    : >"$tree_root/oxford_pets/annotations/test.txt"
    tree_label=0
    for tree_name in Abyssinian beagle Bombay boxer; do
        tree_label=$((tree_label + 1))
        for tree_i in 1 2 3 4 5 6 7 8; do
            cp "$tree_image" "$tree_root/oxford_pets/images/${tree_name}_$tree_i.jpg"
            [ $tree_i -le 5 ] && tree_part=trainval || tree_part=test
            echo "${tree_name}_$tree_i $tree_label 1 1" >>"$tree_root/oxford_pets/annotations/$tree_part.txt"
        done
    done
    tree_with_split "$tree_root/stanford_cars" '' split_zhou_StanfordCars.json '2012 Audi A5' '2010 BMW M5' '2012 Fiat 500' '2009 Ford GT'
    tree_with_split "$tree_root/oxford_flowers" jpg split_zhou_OxfordFlowers.json rose daisy iris lotus
    tree_with_split "$tree_root/food-101" images split_zhou_Food101.json apple_pie baklava ramen waffles
    mkdir -p "$tree_root/fgvc_aircraft/images"
    printf '707-320\nA300\nBoeing 717\nDH-82\n' >"$tree_root/fgvc_aircraft/variants.txt"
    tree_i=0
    for tree_part in train val test; do
        : >"$tree_root/fgvc_aircraft/images_variant_$tree_part.txt"
        while read -r tree_name; do
            for tree_label in 1 2 3 4; do
                tree_i=$((tree_i + 1))
                cp "$tree_image" "$tree_root/fgvc_aircraft/images/$((1000000 + tree_i)).jpg"
                echo "$((1000000 + tree_i)) $tree_name" >>"$tree_root/fgvc_aircraft/images_variant_$tree_part.txt"
            done
        done <"$tree_root/fgvc_aircraft/variants.txt"
    done
    mkdir -p "$tree_root/sun397/SUN397"
    : >"$tree_root/sun397/SUN397/ClassName.txt"
    : >"$tree_root/sun397/SUN397/Training_01.txt"
    : >"$tree_root/sun397/SUN397/Testing_01.txt"
    for tree_name in a/abbey a/airport_terminal b/beach c/church/indoor; do
        echo "/$tree_name" >>"$tree_root/sun397/SUN397/ClassName.txt"
        tree_images "$tree_root/sun397/SUN397/$tree_name" 7
        for tree_i in 1 2 3 4; do echo "/$tree_name/image$tree_i.jpg" >>"$tree_root/sun397/SUN397/Training_01.txt"; done
        for tree_i in 5 6 7; do echo "/$tree_name/image$tree_i.jpg" >>"$tree_root/sun397/SUN397/Testing_01.txt"; done
    done
    for tree_name in banded braided cracked dotted; do tree_images "$tree_root/dtd/images/$tree_name" 10; done
    for tree_name in AnnualCrop Forest River SeaLake; do tree_images "$tree_root/eurosat/2750/$tree_name" 10; done
    for tree_name in Archery BabyCrawling Biking Diving; do tree_images "$tree_root/ucf101/UCF-101-midframes/$tree_name" 10; done
    for tree_name in 0 1 2 3; do tree_images "$tree_root/imagenetv2/imagenetv2-matched-frequency-format-val/$tree_name" 4; done
    for tree_name in n01 n02 n03 n04; do tree_images "$tree_root/imagenet-sketch/images/$tree_name" 4; done
    for tree_name in n01 n03 n04; do tree_images "$tree_root/imagenet-adversarial/imagenet-a/$tree_name" 4; done
    for tree_name in n01 n02 n04; do tree_images "$tree_root/imagenet-rendition/imagenet-r/$tree_name" 4; done
}
