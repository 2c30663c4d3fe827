// SPDX-License-Identifier: Apache-2.0
// Loading of a half-precision file of ViT-L/14's size: seconds and peak memory beside a warm read of the file.
//   load [--model ViT-L/14] [--repeat 5] [--file FILE]      (FILE is generated and kept; without it, a temporary file)
// Each measurement is a process of its own, so that its peak memory is its own.
#include "support/random_model.hpp"

#include <promptkd/clip/checkpoint/weights_file.hpp>
#include <promptkd/clip/model.hpp>
#include <promptkd/device/cpu.hpp>

#include <CLI/CLI.hpp>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

namespace promptkd::bench {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct LoadOptions {
    std::string model = "ViT-L/14", file, measure;
    int repeat = 5, threads = 0;
};

/// Peak resident memory of this process, in bytes: of its own allocations and mapped files, not counting what the
/// process held before.
std::size_t peak_bytes() { return static_cast<std::size_t>(peak_rss_mb()) << 20; }

/// Seconds to read the file once with read(2) into a buffer.
double warm_read(const std::string& path) {
    const auto start = Clock::now();
    const int fd = ::open(path.c_str(), O_RDONLY);
    require(fd >= 0, "cannot open '", path, "'");
    std::vector<char> buffer(std::size_t{4} << 20);
    while (::read(fd, buffer.data(), buffer.size()) > 0) {
    }
    ::close(fd);
    return seconds_since(start);
}

nlohmann::json measure_once(const LoadOptions& o) {
    if (o.measure == "read") return {{"seconds", warm_read(o.file)}};
    const std::size_t before = peak_bytes();
    const auto start = Clock::now();
    Cpu<float> device(o.threads);
    WeightsOptions options;  // as the programs read: values are checked for NaN and infinity
    options.warn = [](const std::string& text) { std::fprintf(stderr, "warning: %s\n", text.c_str()); };
    const TensorMap map = read_weights(o.file, options);
    const double opened = seconds_since(start);
    const ClipModel<Cpu<float>> model(device, map, o.measure == "fp32" ? WeightStorage::wide : WeightStorage::native);
    const double seconds = seconds_since(start);
    return {{"seconds", seconds},
            {"reading_and_checking", opened},
            {"peak_bytes", peak_bytes() - before},
            {"resident_bytes", model.weight_bytes()}};
}

/// Runs this program again with --measure, and reads its line.
nlohmann::json in_child(const LoadOptions& o, const std::string& what) {
    int pipe_ends[2];
    require(::pipe(pipe_ends) == 0, "no pipe");
    const pid_t child = ::fork();
    require(child >= 0, "cannot fork");
    if (child == 0) {
        ::dup2(pipe_ends[1], 1);
        ::close(pipe_ends[0]);
        const std::string threads = std::to_string(o.threads);
        ::execl("/proc/self/exe", "load", "--measure", what.c_str(), "--file", o.file.c_str(), "--threads",
                threads.c_str(), static_cast<char*>(nullptr));
        ::_exit(127);
    }
    ::close(pipe_ends[1]);
    std::string line;
    char buffer[4096];
    for (ssize_t n; (n = ::read(pipe_ends[0], buffer, sizeof buffer)) > 0;)
        line.append(buffer, static_cast<std::size_t>(n));
    ::close(pipe_ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    require(status == 0, "the measurement '", what, "' failed");
    return nlohmann::json::parse(line);
}

void report(const LoadOptions& o) {
    const auto size = static_cast<double>(std::filesystem::file_size(o.file));
    std::printf("%s, %.0f MB in half precision; %d runs, median (fastest)\n", o.model.c_str(), size / 1e6, o.repeat);
    double read = 0;
    in_child(o, "read");  // into the page cache
    for (const char* what : {"read", "fp16", "fp32"}) {
        std::vector<double> seconds;
        nlohmann::json last;
        for (int i = 0; i < o.repeat; ++i) {
            last = in_child(o, what);
            seconds.push_back(last["seconds"].get<double>());
        }
        const Timings t = summarize(seconds);
        if (what == std::string("read")) {
            read = t.median;
            std::printf("warm read of the file: %.2f s (%.2f)\n", t.median, t.min);
            continue;
        }
        const double resident = last["resident_bytes"].get<double>(), peak = last["peak_bytes"].get<double>();
        std::printf("kept in %s: %.2f s (%.2f), %.1f x a warm read; peak %.0f MB, %.2f x the %.0f MB of weights\n",
                    what, t.median, t.min, t.median / read, peak / 1e6, peak / resident, resident / 1e6);
    }
}

int run(const LoadOptions& given) {
    if (!given.measure.empty()) {
        std::printf("%s\n", measure_once(given).dump().c_str());
        return 0;
    }
    LoadOptions o = given;
    const bool temporary = o.file.empty();
    if (temporary) o.file = "/tmp/promptkd-load-" + std::to_string(::getpid()) + ".safetensors";
    if (temporary || !std::filesystem::exists(o.file)) {
        RandomModel model(model_size(o.model), true);
        TensorMap map = model.map();
        map.metadata["gelu"] = "quick";
        write_safetensors(o.file, map);
    }
    try {
        report(o);
    } catch (...) {
        if (temporary) ::unlink(o.file.c_str());
        throw;
    }
    if (temporary) ::unlink(o.file.c_str());
    return 0;
}

}  // namespace

}  // namespace promptkd::bench

int main(int argc, char** argv) {
    promptkd::bench::LoadOptions o;
    CLI::App app{"Seconds and peak memory of loading CLIP weights."};
    app.add_option("--model", o.model, "ViT-B/32, ViT-B/16, ViT-L/14 or tiny")->capture_default_str();
    app.add_option("--file", o.file, "generated when it does not exist, and kept");
    app.add_option("--repeat", o.repeat, "runs of each kind")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--threads", o.threads, "0: all cores")->capture_default_str();
    app.add_option("--measure", o.measure, "read, fp16 or fp32: one measurement, as a JSON line");
    CLI11_PARSE(app, argc, argv);
    try {
        return promptkd::bench::run(o);
    } catch (const std::exception& error) {
        std::cerr << "load: " << error.what() << std::endl;
        return 1;
    }
}
