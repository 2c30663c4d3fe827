// SPDX-License-Identifier: Apache-2.0
// `promptkd bundle add-classes`: further classes for a student, without fitting anything again.
#include "commands.hpp"
#include "progress.hpp"
#include "text_options.hpp"

#include <promptkd/experiment/class_extension.hpp>

namespace promptkd::cli {

namespace {

struct AddClasses {
    Common common;
    ClassExtensionSpec spec;
    TextFlags texts;
    std::string class_names, teacher, teacher_prompts;

    int run() {
        spec.class_names = names_of_option("--class-names", class_names).names;
        nlohmann::json unused;
        if (texts.given()) texts.apply("folder:.", spec.pattern, spec.text, unused);
        spec.text.truncate = texts.truncate;
        if (!teacher.empty()) spec.teacher.weights = {teacher};
        if (!teacher_prompts.empty()) spec.teacher.prompts = {teacher_prompts};
        spec.teacher.names = {"--activation", "--teacher-config FILE"};
        spec.student.names = {"--activation", "--student-config FILE"};
        spec.teacher.activation = spec.student.activation;
        const std::string& model = teacher.empty() ? spec.student.path : teacher;
        spec.vocabulary = model.empty() ? "" : vocabulary_path(common, model);
        spec.out = common.out.empty() ? spec.bundle : common.out;
        with_device(common, [&](auto& device) {
            ProgramObserver observer(common.output);
            promptkd::run(device, spec, observer);
        });
        common.output.text() << spec.out << ": " << spec.class_names.size() << " classes added" << std::endl;
        common.output.write({{"file", spec.out}, {"added", spec.class_names}});
        return 0;
    }
};

void add_classes(CLI::App& app, Action& action) {
    auto o = std::make_shared<AddClasses>();
    CLI::App& c = *app.add_subcommand("add-classes", "append class names: texts are encoded, nothing is fitted again");
    c.add_option("bundle,--bundle", o->spec.bundle, "student bundle written by distill")->required();
    c.add_option("--class-names", o->class_names, class_names_files)->required();
    c.add_option("--teacher", o->teacher, "CLIP weights of the teacher that the student learned from");
    c.add_option("--teacher-prompts", o->teacher_prompts, "its learned prompts, where it had some");
    c.add_option("--teacher-config", o->spec.teacher.config, "the teacher's JSON, where it is not beside its weights");
    c.add_option("--class-vectors", o->spec.teacher.class_vectors,
                 "instead: file with the tensor class_vectors (new classes, e)");
    c.add_option("--student", o->spec.student.path,
                 "CLIP weights of the student, for a bundle with a mixture or a guard");
    c.add_option("--student-config", o->spec.student.config, "the student's JSON, where it is not beside its weights");
    c.add_option("--student-text", o->spec.student_text,
                 "instead: file with the student's own class vectors (tensor class_vectors) of the new classes");
    c.add_option("--activation", o->spec.student.activation, "of a model whose file does not tell: quick_gelu or gelu")
        ->check(CLI::IsMember({"quick_gelu", "gelu"}));
    add_text_options(c, o->texts);
    add_vocabulary(c, o->common);
    c.add_option("--out", o->common.out, "bundle to write (default: the same file)");
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &action] { action = [o] { return o->run(); }; });
}

}  // namespace

void add_bundle(CLI::App& app, Action& action) {
    CLI::App& c = *app.add_subcommand("bundle", "change a student bundle");
    c.require_subcommand(1);
    add_classes(c, action);
}

}  // namespace promptkd::cli
