#include "compare/report.hpp"

#include <cstdio>
#include <ctime>
#include <fstream>

#include <nlohmann/json.hpp>

#include "intact/io/replace_file.hpp"

namespace intact_bench {

void report::add(const std::string& operation, const row& row) {
  if (operation != printed_operation_) {
    printed_operation_ = operation;
    const std::string weights = row.weights.empty() ? "" : ", weights " + row.weights;
    std::printf("\n%s%s, %d thread%s, %s; peak %.0f GOPS per thread\n", operation.c_str(), weights.c_str(),
                given_.threads, given_.threads == 1 ? "" : "s", given_.isa.c_str(), peak_gops_);
    std::printf("%-13s %-9s %-5s %-21s %6s %15s %9s %9s %9s %9s %9s %8s %6s %17s\n", "shape", "output", "cache", "peer",
                "ratio", "quartiles", "ours us", "peer us", "ours GOPS", "peer GOPS", "of peak", "x floor", "off",
                "peer's s32 wrong");
  }
  print(row);
  entries_.push_back({operation, row});
}

void report::print(const row& row) const {
  const auto print_if = [](bool known, const char* format, double x) {
    known ? std::printf(format, x) : std::printf(" %9s", "-");
  };
  std::printf("%-13s %-9s %-5s %-21s ", row.shape.c_str(), row.output.c_str(), row.caches.c_str(), row.peer.c_str());
  if (row.measured.ours.empty()) {
    std::printf("not measured: %s\n", row.problem.c_str());
    return;
  }
  const bool compared = !row.measured.peer.empty(), counted = row.operations != 0;
  const double ours = median(row.measured.ours), peer = compared ? median(row.measured.peer) : 0;
  if (compared) {
    const speed_ratio speed = compare_medians(row.measured);
    std::printf("%6.2f   %5.2f - %5.2f", speed.ratio, speed.low, speed.high);
  } else {
    std::printf("%6s %15s", "-", "-");
  }
  std::printf(" %9.1f", 1e6 * ours);
  print_if(compared, " %9.1f", 1e6 * peer);
  print_if(counted, " %9.1f", 1e-9 * row.operations / ours);
  print_if(compared && counted, " %9.1f", 1e-9 * row.operations / peer);
  print_if(counted, " %7.1f %%", 100 * share_of_peak(row));
  print_if(counted, " %8.2f", 1 / share_of_peak(row));
  std::printf(" %6s", row.peer_codes_off ? std::to_string(*row.peer_codes_off).c_str() : "-");
  const std::string of = " of " + std::to_string(row.outputs);
  std::printf(" %17s\n", row.peer_wrong ? (std::to_string(*row.peer_wrong) + of).c_str() : "-");
  std::fflush(stdout);
}

double report::share_of_peak(const row& row) const {
  if (row.measured.ours.empty()) {
    return 0;
  }
  const double best = quantile(row.measured.ours, 0);
  return 1e-9 * row.operations / best / (peak_gops_ * given_.threads);
}

void report::add_parts(const std::string& operation, const std::string& shape, const std::string& output,
                       const named_seconds& parts) {
  divided_.push_back({operation, shape, output, parts});
  double sum = 0;
  std::printf("%-13s %-9s us: ", shape.c_str(), output.c_str());
  for (const auto& [name, seconds] : parts) {
    std::printf("%s %.1f, ", name.c_str(), 1e6 * seconds);
    sum += seconds;
  }
  std::printf("together %.1f\n", 1e6 * sum);
}

void report::add_failure(const std::string& what) {
  std::fprintf(stderr, "intact-compare: %s\n", what.c_str());
  failures_.push_back(what);
}

namespace {

/// The processor's name, where the system tells it.
std::string machine() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name") && line.find(": ") != std::string::npos) {
      return line.substr(line.find(": ") + 2);
    }
  }
  return "unknown";
}

std::string date() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

constexpr const char* compiler =
#if defined(__clang__)
    __VERSION__;
#else
    "GCC " __VERSION__;
#endif

template <class T>
nlohmann::json or_null(const std::optional<T>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json();
}

/// The measurements; null for missing ones.
nlohmann::json speeds(const row& row, double share_of_peak) {
  nlohmann::json fields = {{"ratio", nullptr},     {"ratio_low", nullptr}, {"ratio_high", nullptr},
                           {"ours_us", nullptr},   {"peer_us", nullptr},   {"ours_gops", nullptr},
                           {"peer_gops", nullptr}, {"peak_share", nullptr}};
  const bool compared = !row.measured.peer.empty(), counted = row.operations != 0;
  if (!row.measured.ours.empty()) {
    const double ours = median(row.measured.ours);
    fields["ours_us"] = 1e6 * ours;
    if (counted) {
      fields["ours_gops"] = 1e-9 * row.operations / ours;
      fields["peak_share"] = share_of_peak;
    }
  }
  if (compared) {
    const speed_ratio speed = compare_medians(row.measured);
    const double peer = median(row.measured.peer);
    fields["ratio"] = speed.ratio;
    fields["ratio_low"] = speed.low;
    fields["ratio_high"] = speed.high;
    fields["peer_us"] = 1e6 * peer;
    if (counted) {
      fields["peer_gops"] = 1e-9 * row.operations / peer;
    }
  }
  return fields;
}

}  // namespace

void report::write(const std::string& path) const {
  nlohmann::json json = {{"machine", machine()},      {"compiler", compiler},  {"date", date()},
                         {"threads", given_.threads}, {"isa", given_.isa},     {"peak_gops", peak_gops_},
                         {"shapes", given_.shapes},   {"failures", failures_}, {"rows", nlohmann::json::array()}};
  for (const auto& [operation, row] : entries_) {
    nlohmann::json fields = {{"op", operation},
                             {"shape", row.shape},
                             {"weights", row.weights},
                             {"output", row.output},
                             {"caches", row.caches},
                             {"threads", given_.threads},
                             {"isa", given_.isa},
                             {"peer", row.peer},
                             {"method", row.method},
                             {"problem", row.problem},
                             {"peer_wrong", or_null(row.peer_wrong)},
                             {"peer_codes_off", or_null(row.peer_codes_off)},
                             {"outputs", row.outputs}};
    fields.update(speeds(row, share_of_peak(row)));
    json["rows"].push_back(fields);
  }
  json["parts"] = nlohmann::json::array();
  for (const auto& [operation, shape, output, parts] : divided_) {
    nlohmann::json part = {{"op", operation}, {"shape", shape}, {"output", output}, {"names", nlohmann::json::array()}};
    for (const auto& [name, seconds] : parts) {
      part["names"].push_back(name);
      part["us"].push_back(1e6 * seconds);
    }
    part["threads"] = given_.threads;
    json["parts"].push_back(part);
  }
  intact::write_text_file(path, json.dump(2) + '\n');
}

}  // namespace intact_bench
