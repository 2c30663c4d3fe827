// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "numbers_case.hpp"

#include <promptkd/device/cpu.hpp>
#include <promptkd/optim/adam.hpp>
#include <promptkd/optim/sgd.hpp>

namespace promptkd::test {

/// Runs one optimizer trajectory of numbers.json on the library's optimizer, in float as the published results are.
template <class Optimizer>
void follow_trajectory(Optimizer& optimizer, ParamSet<Cpu<float>>& params, const nlohmann::json& entry,
                       const std::string& name, Report& report) {
    const double lr = entry.at("config").at("lr");
    for (std::size_t i = 0; i < entry.at("grads").size(); ++i) {
        const auto grad = entry.at("grads")[i].get<std::vector<float>>();
        std::copy(grad.begin(), grad.end(), params.gradients());
        optimizer.step(lr);
        report.close(concat(name, " after step ", i), params.values_of("p"),
                     entry.at("values")[i].get<std::vector<double>>(), 1e-6);
    }
}

/// The `optimizers` part of numbers.json.
inline void check_optimizers(const nlohmann::json& numbers, Report& report) {
    if (!numbers.contains("optimizers")) return;
    Cpu<float> device(1);
    for (const auto& entry : numbers.at("optimizers")) {
        const nlohmann::json& config = entry.at("config");
        const auto init = entry.at("init").get<std::vector<float>>();
        ParamSet<Cpu<float>> params(device);
        params.add("p", {static_cast<Index>(init.size())});
        params.bind();
        params.set("p", init);
        const std::string name = entry.at("name");
        if (name == "sgd") {
            Sgd<Cpu<float>> optimizer(params, {config.value("momentum", 0.0), config.value("weight_decay", 0.0),
                                               config.value("dampening", 0.0), config.value("nesterov", false)});
            follow_trajectory(optimizer, params, entry, name, report);
        } else if (name == "adam" || name == "adamw") {
            const auto betas = config.at("betas").get<std::vector<double>>();
            Adam<Cpu<float>> optimizer(params, {betas.at(0), betas.at(1), config.value("eps", 1e-8),
                                                config.value("weight_decay", 0.0), name == "adamw"});
            follow_trajectory(optimizer, params, entry, name, report);
        } else {
            report.check(false, "unknown optimizer '" + name + "'");
        }
    }
}

/// Every part of numbers.json.
inline void check_all_numbers(const std::string& path, Report& report) {
    check_numbers(path, report);
    check_optimizers(nlohmann::json::parse(read_file(path)), report);
}

}  // namespace promptkd::test
