# SPDX-License-Identifier: Apache-2.0
# Exported students in ONNX Runtime and OpenVINO: the probabilities of classify, for every kind of student, both
# precisions, normalised images and bytes; encoders against the features of encode; what cannot be exported is named.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
student=$assets/fashion_clip_student.safetensors
rm -rf sgd mixed closed pngs ./*.onnx ./*.onnx_data folder
bundle=sgd/bundle.safetensors
# shellcheck disable=SC2086  # a list of options
run 0 distill $models --data "$fashion" --images 300 --epochs 1 --depth 3 --out sgd

# --- refusals --------------------------------------------------------------------------------------------------------
refuse 1 "say which encoder" export onnx "$student" image.onnx
refuse 1 "ends in .onnx" export onnx "$student" folder --part image
refuse 1 "without --part" export onnx "$bundle" student.onnx --part image
refuse 1 "takes normalised images" export onnx "$bundle" folder --with-preprocessing
refuse 1 "there is nothing to export" export onnx "$assets/fashion_teacher_prompts.safetensors" student.onnx
refuse 1 "no preprocessing of images" export onnx "$student" text.onnx --part text --with-preprocessing
refuse 1 "cannot write" export onnx "$bundle" missing/student.onnx
refuse 1 "cannot open" export onnx missing.safetensors student.onnx
refuse 2 "--precision" export onnx "$bundle" student.onnx --precision int8
run 0 export onnx "$bundle" folder --json exported.json
for file in config.json preprocessor_config.json onnx/model.onnx; do
    check "the folder holds $file" test -s "folder/$file"
done
check "the classes are in config.json" grep -q '"9": "Ankle boot"' folder/config.json

# --- other runtimes ----------------------------------------------------------------------------------------------------
if [ -n "${PROMPTKD_OFFLINE:-}" ]; then
    echo "offline: no other runtime is installed; the exported models are not run"
    finish
fi
PYTHONPATH=$PWD/python
export PYTHONPATH
python3 -c "import onnx, onnxruntime, openvino" 2>/dev/null ||
    check "pip3 installs onnx, onnxruntime and openvino" pip3 install --quiet --root-user-action=ignore --target python onnx onnxruntime openvino
agree() { python3 -W ignore "$source_dir/tests/support/onnx_agrees.py" "$@" >stdout 2>stderr; }
python3 "$source_dir/tests/support/fashion_pngs.py" "${fashion#fashion-mnist:}" pngs 500
# shellcheck disable=SC2086  # a list of options
{
    run 0 distill $models --data "$fashion" --images 300 --epochs 1 --depth 3 --mix --guard --out mixed
    run 0 distill $models --data "$fashion" --images 300 --fit closed-form --width 128 --out closed
}
# students KIND…: exports and runs each
students() {
    for kind in "$@"; do
        run 0 classify $kind/bundle.safetensors pngs --top 10 --json $kind.json
        for precision in fp32 fp16; do
            bound=0.0001
            [ $precision = fp32 ] || bound=0.02
            run 0 export onnx $kind/bundle.safetensors $kind.onnx --precision $precision
            check "$kind in $precision, ONNX Runtime" agree $kind.onnx $kind.json pngs --tolerance $bound
            check "$kind in $precision, OpenVINO" agree $kind.onnx $kind.json pngs --tolerance $bound --engine openvino
        done
        run 0 export onnx $kind/bundle.safetensors $kind.onnx --with-preprocessing --features
        check "$kind, from bytes" agree $kind.onnx $kind.json pngs --raw
    done
}
students sgd mixed closed

# Encoders: every tower and the ResNet, against the numbers of the libraries that own them.
export_features() { python3 -W ignore "$source_dir/tests/support/onnx_features.py" "$promptkd" "$data_dir/encoders" >stdout 2>stderr; }
check "the features of every tower" export_features
finish
