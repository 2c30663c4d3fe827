// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>

#include <nlohmann/json.hpp>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace promptkd::python {

/// Settings that were given by name, as JSON: each is taken under its name, and what nothing takes is an error.
class Settings {
public:
    /// `what` is set, for messages.
    Settings(const std::string& json, std::string what) : what_(std::move(what)), given_(nlohmann::json::parse(json)) {}

    /// Whether it was given.
    bool has(const std::string& name) const { return given_.contains(name); }

    /// Sets `to` where `name` was given; whether it was. Throws Error for a value of another kind.
    template <class T>
    bool take(const std::string& name, T& to) {
        known_.insert(name);
        if (!has(name)) return false;
        read(name, given_.at(name), to);
        return true;
    }

    /// A number of at least `least`.
    template <class T>
    bool take_from(const std::string& name, T& to, T least) {
        if (!take(name, to)) return false;
        require(to >= least, what_, ": ", name, " must be at least ", least, ", found ", to);
        return true;
    }

    /// A number above 0.
    bool take_positive(const std::string& name, double& to) {
        if (!take(name, to)) return false;
        require(to > 0, what_, ": ", name, " must be above 0, found ", to);
        return true;
    }

    /// What `parse` makes of a text.
    template <class T, class Parse>
    bool take_parsed(const std::string& name, T& to, const Parse& parse) {
        std::string text;
        if (!take(name, text)) return false;
        to = parse(text);
        return true;
    }

    /// Throws Error for a setting that is needed.
    void need(const std::string& name) const { require(has(name), what_, ": ", name, " is needed"); }

    /// Throws Error for what was given under a name that nothing took.
    void finish() const {
        for (const auto& [name, value] : given_.items()) {
            if (known_.count(name) > 0) continue;
            std::string all;
            for (const std::string& one : known_) all += (all.empty() ? "" : ", ") + one;
            fail(what_, ": there is no setting '", name, "'; known: ", all);
        }
    }

private:
    using Json = nlohmann::json;

    [[noreturn]] void refuse(const std::string& name, const Json& value, const char* wanted) const {
        fail(what_, ": ", name, " must be ", wanted, ", found ", value.dump());
    }

    void read(const std::string& name, const Json& value, std::string& to) const {
        if (!value.is_string()) refuse(name, value, "a text");
        to = value.get<std::string>();
        require(!to.empty(), what_, ": ", name, " is empty; give it a value, or leave it out");
    }
    void read(const std::string& name, const Json& value, bool& to) const {
        if (!value.is_boolean()) refuse(name, value, "true or false");
        to = value.get<bool>();
    }
    void read(const std::string& name, const Json& value, double& to) const {
        if (!value.is_number()) refuse(name, value, "a number");
        to = value.get<double>();
    }
    void read(const std::string& name, const Json& value, Index& to) const {
        if (!value.is_number_integer()) refuse(name, value, "a whole number");
        to = value.get<Index>();
    }
    void read(const std::string& name, const Json& value, int& to) const {
        Index wide = 0;
        read(name, value, wide);
        require(wide >= 0 && wide <= 4096, what_, ": ", name, " must be from 0 to 4096, found ", wide);
        to = static_cast<int>(wide);
    }
    void read(const std::string& name, const Json& value, std::uint64_t& to) const {
        if (!value.is_number_unsigned()) refuse(name, value, "a whole number from 0 on");
        to = value.get<std::uint64_t>();
    }
    template <class T>
    void read(const std::string& name, const Json& value, std::optional<T>& to) const {
        read(name, value, to.emplace());
    }
    /// A list, or a single value in its place.
    template <class T>
    void read(const std::string& name, const Json& value, std::vector<T>& to) const {
        to.clear();
        if (!value.is_array()) return read(name, value, to.emplace_back());
        for (const Json& part : value) read(name, part, to.emplace_back());
    }
    void read(const std::string& name, const Json& value, std::map<std::string, double>& to) const {
        if (!value.is_object()) refuse(name, value, "a mapping from names to numbers");
        for (const auto& [key, number] : value.items()) read(name + "['" + key + "']", number, to[key]);
    }

    std::string what_;
    Json given_;
    std::set<std::string> known_;
};

}  // namespace promptkd::python
