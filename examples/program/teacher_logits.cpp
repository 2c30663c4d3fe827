// SPDX-License-Identifier: Apache-2.0
// `promptkd teacher-logits`: what one or several teachers say of all views of a distillation, in a file for `distill
// --teacher-logits`.
#include "commands.hpp"
#include "distill_options.hpp"

#include <promptkd/experiment/teacher_targets.hpp>

namespace promptkd::cli {

namespace {

struct TeacherLogits : DistillOptions {
    int run_command() {
        finish();
        hold_signals();
        if (common.precision == "int8")
            spec.teacher.int8 = true;  // nothing is trained here: the teacher is all there is
        if (common.precision == "int8") common.precision = "fp32";
        with_device<CpuPrecisions::all>(common, [&](auto& device) { write(device); });
        return 0;
    }

    template <class D>
    void write(D& device) const {
        ProgramObserver observer(common.output);
        const StoredTargetsFile file = spec.scale.merge ? merge_teacher_targets(common.out)
                                                        : write_teacher_targets(device, spec, common.out, observer);
        common.output.text() << (file.features ? "features" : "logits") << " of " << file.table.images << " images in "
                             << file.table.views << " view(s): " << common.out
                             << (spec.scale.shard.is_part() ? "." + spec.scale.shard.name() : "") << std::endl;
        common.output.write({{"images", file.table.images},
                             {"views", file.table.views},
                             {"values", file.table.size},
                             {"fingerprint", file.fingerprint},
                             {"config", config}});
    }
};

}  // namespace

void add_teacher_logits(CLI::App& app, Action& action) {
    auto o = std::make_shared<TeacherLogits>();
    CLI::App& c = *app.add_subcommand(
        "teacher-logits", "write what teachers say of all views of a distillation, for distill --teacher-logits");
    add_teacher_options(c, *o);
    c.get_option("--teacher")->required();
    add_image_options(c, *o);
    add_view_options(c, *o);
    c.add_option("--augment", o->run.augment, "rrc (random resized crop and flip), flip or none")
        ->check(CLI::IsMember({"rrc", "flip", "none"}))
        ->capture_default_str();
    add_shard(c, *o);
    add_protocol(c, o->run);
    c.add_option("--out", o->common.out, "the file to write (safetensors)")->required();
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] {
        o->config = resolved(c);
        action = [o] { return o->run_command(); };
    });
}

}  // namespace promptkd::cli
