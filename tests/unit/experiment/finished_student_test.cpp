// SPDX-License-Identifier: Apache-2.0
// An output folder that holds the student of another run.
#include "support/temporary_folder.hpp"

#include <promptkd/experiment/finished_student.hpp>

#include <doctest/doctest.h>

namespace promptkd::test::finished_student_test {

TEST_CASE("a finished student is replaced by its own run alone") {
    const TemporaryFolder folder;
    DistillationSpec spec;
    spec.fit = DistillationFit::closed_form;
    spec.loop.out = folder / "out";
    spec.loop.identity = {{"width", "256"}, {"teacher", "a.pt"}, {"seed", "1"}};
    const Fingerprint targets = {{"images", "12 of them"}, {"weights of the teacher", "abc"}};
    const auto refusal = [](const DistillationSpec& with, const Fingerprint& now) {
        return error_of([&] { require_own_folder(with, now); });
    };
    CHECK(refusal(spec, targets) == "no error");  // there is none
    make_directories(spec.loop.out);
    TensorMap bundle;
    bundle.tensors["class_vectors"] = make_tensor<float>({1}, {1, 1});
    bundle.metadata["format"] = bundle_format;
    bundle.metadata["provenance"] =
        json_text(nlohmann::json{{"config", student_recipe(spec.loop.identity)}, {"targets", nlohmann::json(targets)}});
    write_safetensors(spec.loop.out + "/bundle.safetensors", bundle);
    CHECK(refusal(spec, targets) == "no error");

    DistillationSpec other = spec;
    other.loop.identity["width"] = "128";
    const std::string settings = refusal(other, targets);
    CHECK(settings.find("run with other settings: 'width' was \"256\" and is now \"128\"; use another output") !=
          std::string::npos);
    other.fresh = true;
    CHECK(refusal(other, targets) == "no error");
    CHECK(refusal(spec, {{"images", "13 of them"}}).find("whose images differed") != std::string::npos);
    CHECK(refusal(spec, {{"weights of the teacher", "d"}}).find("whose weights of the teacher differed") !=
          std::string::npos);

    DistillationSpec added = spec;  // today's images to the sums of yesterday's
    added.loop.identity["add-to"] = "sums";
    added.scale.add_to = "sums";
    CHECK(refusal(added, {{"images", "13 of them"}}) == "no error");

    write_atomically(spec.loop.out + "/bundle.safetensors", "something else");
    CHECK(refusal(spec, targets).find("; use another output folder, or start afresh") != std::string::npos);
}

}  // namespace promptkd::test::finished_student_test
