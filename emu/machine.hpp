// What records say of the machine and the time that they were made on and at.
#pragma once

#include <ctime>
#include <fstream>
#include <string>

namespace halfulp {

// "Intel(R) Xeon(R) …", or "unknown" where /proc/cpuinfo does not say.
inline std::string processor_name() {
  std::ifstream facts("/proc/cpuinfo");
  for (std::string line; std::getline(facts, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

// "2026-01-31T12:00:00Z"
inline std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

}  // namespace halfulp
