// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/device/parallel/communicator.hpp>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace promptkd {

/// One of several parts of a set of images, each for a process of its own.
struct Shard {
    Index number = 0;  ///< 1 … count; 0: the whole set
    Index count = 0;   ///< number of shards

    /// Whether it is a part.
    bool is_part() const { return number > 0; }
    /// Its images among `images`. Throws Error when there is none.
    Slice of(Index images) const {
        if (!is_part()) return {0, images};
        const Slice slice = slice_of(images, static_cast<int>(number - 1), static_cast<int>(count));
        require(slice.count > 0, "shard ", number, "/", count, " of ", images, " images is empty; make fewer shards");
        return slice;
    }
    /// "shard-2-of-8", how its files are called.
    std::string name() const { return concat("shard-", number, "-of-", count); }
};

/// "2/8". Throws Error for anything else.
inline Shard parse_shard(const std::string& text) {
    constexpr Index most = 100000;
    Shard shard;
    const std::string_view view = text;
    const std::size_t slash = view.find('/');
    const auto number = [](std::string_view part, Index& out) {
        const auto [end, code] = std::from_chars(part.data(), part.data() + part.size(), out);
        return code == std::errc() && end == part.data() + part.size();
    };
    const bool good = slash != std::string_view::npos && number(view.substr(0, slash), shard.number) &&
                      number(view.substr(slash + 1), shard.count);
    require(good && shard.number >= 1 && shard.number <= shard.count && shard.count <= most, "'", text,
            "' is no shard; give i/n, the i-th of n from 1 on, as in 2/8");
    return shard;
}

/// The shards that `folder` holds as files or folders "<prefix>shard-i-of-n…", in order. Throws Error where there are
/// none, some are missing, or there are some of another number of shards.
inline std::vector<Shard> find_shards(const std::string& folder, const std::string& prefix = "") {
    const std::string start = prefix + "shard-";
    std::vector<Shard> found;
    std::error_code code;
    for (const auto& entry : std::filesystem::directory_iterator(folder.empty() ? "." : folder, code)) {
        std::string name = entry.path().filename().string();
        if (name.rfind(start, 0) != 0) continue;
        name = name.substr(start.size());
        const std::size_t of = name.find("-of-");
        if (of == std::string::npos) continue;
        try {
            found.push_back(parse_shard(name.replace(of, 4, "/")));
        } catch (const Error&) {  // another file, with a name like that
        }
    }
    const std::string where = concat(folder.empty() ? "." : folder, "/", start, "*: ");
    require(!found.empty(), where, "there is no shard to merge; run each shard first");
    std::sort(found.begin(), found.end(), [](const Shard& a, const Shard& b) {
        return a.count != b.count ? a.count < b.count : a.number < b.number;
    });
    const Index count = found.front().count;
    require(count == found.back().count, where, "there are shards of ", count, " and of ", found.back().count,
            "; remove those of the other run");
    for (Index i = 1; i <= count; ++i) {
        const bool there = i <= static_cast<Index>(found.size()) && found[static_cast<std::size_t>(i - 1)].number == i;
        require(there, where, "shard ", i, "/", count, " is missing");
    }
    return found;
}

}  // namespace promptkd
