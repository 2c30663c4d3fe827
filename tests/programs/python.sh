# SPDX-License-Identifier: Apache-2.0
# The Python package of examples/python, built by pip into a folder of its own: what classify and encode say.
# PROMPTKD_OFFLINE: skipped, since pip fetches the build tools.
. "${PROMPTKD_SOURCE_DIR:?}/tests/support/programs.sh"
if [ -n "${PROMPTKD_OFFLINE-}" ]; then
    echo "skipped: offline"
    exit 0
fi
rm -rf run texts environment
# shellcheck disable=SC2086  # a list of options
run 0 distill $models --data "$fashion" --images 200 --fit closed-form --width 64 --out run
python3 "$source_dir/tests/support/fashion_pngs.py" "${fashion#fashion-mnist:}" run/pngs 5
run 0 classify run/bundle.safetensors run/pngs --top 10 --json run/answers.json
printf "%s\n" "a photo of a bag." "a sneaker" >texts.txt
run 0 encode --weights "$assets/fashion_clip_teacher.safetensors" --texts texts.txt \
    --out run/texts.safetensors
# -O1, for this machine: it runs for seconds, and what is chosen at run time has tests of its own.
check "pip builds and installs the package" pip3 install --quiet --root-user-action=ignore --target environment \
    --config-settings=cmake.define.PROMPTKD_PYTHON_MARCH=native \
    --config-settings=cmake.define.CMAKE_CXX_FLAGS_RELEASE="-O1 -DNDEBUG" "$source_dir/examples/python[test]"
check "it does what the program does" env PYTHONPATH="$PWD/environment" PROMPTKD_TEST_RUN="$PWD/run" \
    PROMPTKD_TEST_ASSETS="$assets" PROMPTKD_FASHION_MNIST="${fashion#fashion-mnist:}" \
    python3 -B -m pytest -q -p no:cacheprovider "$source_dir/examples/python/tests"
check "the example distils and plots" env PYTHONPATH="$PWD/environment" IMAGES=200 \
    PROMPTKD_FASHION_MNIST="${fashion#fashion-mnist:}" \
    python3 -B "$source_dir/examples/python/scripts/fashion_mnist.py" run/plotted
check "a plot" test -s run/plotted/fashion_mnist.png
finish
