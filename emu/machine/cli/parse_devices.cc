#include "emu/machine/cli/parse_devices.h"

#include <fmt/format.h>

#include "emu/machine/cli/chardev.h"
#include "emu/machine/cli/number.h"

namespace pangea::machine {
namespace {
/// isa-debugcon,chardev=ID,iobase=PORT
Status read_debugcon(const Given& g, const std::string& text, RunOptions& out) {
  const auto items = parse_key_values(text);
  for (usize i = 1; i < items.size(); ++i) {
    const auto& [key, value] = items[i];
    const u64 port = key == "iobase" ? parse_u64(value).value_or(0) : 0;
    if (key == "chardev") {
      auto back_end = find_chardev(all(g, "chardev"), value, "-device " + text);
      if (!back_end) return back_end.error();
      out.debugcon = *std::move(back_end);
    } else if (port == 0xe9 || port == 0x402) {
      out.debugcon_port = static_cast<u16>(port);
    } else if (key != "id") {
      return Error{"-device " + text, fmt::format("{}={} makes no sense", key, value), "use chardev=ID,iobase=0xe9"};
    }
  }
  return ok();
}
}  // namespace

Status read_serial(const Given& g, RunOptions& out) {
  constexpr std::string_view kNamed = "chardev:";
  for (const std::string& text : all(g, "serial")) {
    out.serial.push_back(text);
    if (!text.starts_with(kNamed)) continue;
    auto back_end = find_chardev(all(g, "chardev"), text.substr(kNamed.size()), "-serial " + text);
    if (!back_end) return back_end.error();
    out.serial.back() = *std::move(back_end);
  }
  return ok();
}

Status read_globals(const Given& g, RunOptions& out) {
  for (const std::string& text : all(g, "global")) {
    std::string name, value;
    for (const auto& [key, v] : parse_key_values(text)) {
      if (key == "driver")
        name = v + name;
      else if (key == "property")
        name += "." + v;
      else {
        if (key != "value") name = key;
        value = v;
      }
    }
    const bool s3 = name == "PIIX4_PM.disable_s3" || name == "ICH9-LPC.disable_s3";
    const bool s4 = name == "PIIX4_PM.disable_s4" || name == "ICH9-LPC.disable_s4";
    if (!s3 && !s4) return Error{"-global " + text, "no such property of a device here", "leave it out"};
    const bool on = value == "1" || value == "on" || value == "true";
    if (!on && value != "0" && value != "off" && value != "false")
      return Error{"-global " + text, "neither 0 nor 1", "write -global PIIX4_PM.disable_s3=1"};
    if (s4 && !on) return Error{"-global " + text, "there is no suspend to disk (S4)", "leave it out"};
    if (s3) out.s3 = !on;
  }
  return ok();
}

Status read_devices(const Given& g, RunOptions& out) {
  for (const std::string& text : all(g, "device")) {
    const auto items = parse_key_values(text);
    if (text == "pc-testdev" || text == "pci-testdev") {
      (text == "pc-testdev" ? out.pc_testdev : out.pci_testdev) = true;
      continue;
    }
    if (!items.empty() && items[0].first == "isa-debugcon") {
      if (Status s = read_debugcon(g, text, out); !s) return s;
      continue;
    }
    if (items.empty() || items[0].first != "isa-debug-exit")
      return Error{"-device " + text, "not supported", "-device help lists the devices there are"};
    DebugExitOption d;
    for (usize i = 1; i < items.size(); ++i) {
      const auto& [key, value] = items[i];
      const auto n = parse_u64(value);
      if (key == "iobase" && n && *n <= 0xffff)
        d.port = static_cast<u16>(*n);
      else if (key == "iosize" && n && *n >= 1 && *n <= 4)
        d.bytes = static_cast<u16>(*n);
      else if (key != "id")
        return Error{"-device " + text, fmt::format("{}={} makes no sense", key, value), "use iobase=0xf4,iosize=4"};
    }
    out.debug_exit = d;
  }
  return ok();
}
}  // namespace pangea::machine
