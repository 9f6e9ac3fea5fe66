#include "emu/machine/cli/chardev.h"

#include <fmt/format.h>

#include <map>

#include "emu/machine/cli/given.h"
#include "emu/machine/cli/number.h"

namespace pangea::machine {
namespace {
Result<std::string> as_serial(const std::string& spec, const std::string& kind,
                              const std::map<std::string, std::string>& v) {
  const auto get = [&v](const char* key) {
    const auto it = v.find(key);
    return it == v.end() ? std::string{} : it->second;
  };
  if (kind == "stdio") return std::string(get("mux") == "on" ? "mon:stdio" : "stdio");
  if (kind == "null" || kind == "pty") return kind;
  if (kind == "file" && !get("path").empty()) return "file:" + get("path");
  if (kind == "socket" && !get("path").empty()) return "unix:" + get("path");
  if (kind == "socket" && !get("port").empty()) return fmt::format("tcp:{}:{}", get("host"), get("port"));
  return Error{"-chardev " + spec, "not supported",
               "write stdio, null, pty, file,path=PATH or socket,path=PATH, and id="};
}
}  // namespace

Result<std::string> find_chardev(const std::vector<std::string>& chardevs, const std::string& id,
                                 const std::string& user) {
  for (const std::string& spec : chardevs) {
    std::string kind;
    std::map<std::string, std::string> values;
    for (const auto& [key, value] : parse_key_values(spec)) {
      if (kind.empty() && (value.empty() || key == "backend"))
        kind = value.empty() ? key : value;
      else
        values[key] = value;
    }
    if (values["id"] == id) return as_serial(spec, kind, values);
  }
  return Error{user, fmt::format("there is no -chardev with id={}", id), "add one"};
}
}  // namespace pangea::machine
