// -serial SPEC to a backend.
#include "devices/serial/char_backend.h"

#include "devices/serial/host_endpoint.h"
#include "devices/serial/threaded_backend.h"

namespace pangea::devices {
namespace {

class NullBackend final : public CharBackend {
 public:
  usize write(std::span<const u8> bytes) override { return bytes.size(); }
  usize space() override { return ~usize{0}; }
  Status start(CharSink&) override { return ok(); }
  void resume_input() override {}
  void stop(unsigned) override {}
  std::string describe() const override { return "null"; }
};

struct SocketSpec {
  std::string address;
  SocketOptions options;
};

// ADDRESS[,server[=on|off]][,nowait|,wait[=on|off]]
Result<SocketSpec> parse_socket(const std::string& spec, std::string_view rest) {
  SocketSpec s;
  usize comma = rest.find(',');
  s.address = rest.substr(0, comma);
  while (comma != std::string_view::npos) {
    rest.remove_prefix(comma + 1);
    comma = rest.find(',');
    const std::string_view word = rest.substr(0, comma);
    if (word == "server" || word == "server=on")
      s.options.server = true;
    else if (word == "server=off")
      s.options.server = false;
    else if (word == "nowait" || word == "wait=off")
      s.options.wait = false;
    else if (word == "wait" || word == "wait=on")
      s.options.wait = true;
    else
      return Error{"-serial " + spec, "unknown option '" + std::string(word) + "'", "use server, wait=on or wait=off"};
  }
  return s;
}

Result<std::unique_ptr<HostEndpoint>> open_endpoint(const std::string& spec, const CharOptions& options) {
  const std::string_view v = spec;
  if (v == "stdio" || v == "mon:stdio") return open_stdio(options.control != nullptr, options.signals);
  if (v == "pty") return open_pty();
  if (v.starts_with("file:")) return open_file(spec.substr(5));
  if (v.starts_with("unix:")) {
    auto s = parse_socket(spec, v.substr(5));
    if (!s) return s.error();
    return open_unix_socket(s->address, s->options);
  }
  if (v.starts_with("tcp:")) {
    auto s = parse_socket(spec, v.substr(4));
    if (!s) return s.error();
    const usize colon = s->address.rfind(':');
    if (colon == std::string::npos) return Error{"-serial " + spec, "no port", "give tcp:HOST:PORT"};
    return open_tcp_socket(s->address.substr(0, colon), s->address.substr(colon + 1), s->options);
  }
  return Error{"-serial " + spec, "unknown kind", "use stdio, mon:stdio, null, pty, file:, unix: or tcp:"};
}
}  // namespace

Result<std::unique_ptr<CharBackend>> open_char_backend(const std::string& spec, const CharOptions& options) {
  if (spec == "null" || spec == "none") return std::unique_ptr<CharBackend>(new NullBackend);
  auto endpoint = open_endpoint(spec, options);
  if (!endpoint) return endpoint.error();
  return ThreadedBackend::create(*std::move(endpoint), options);
}

}  // namespace pangea::devices
